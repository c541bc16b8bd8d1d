// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/workers.h"

#include <google/protobuf/descriptor.h>

#include "headgate/v1/gateway.pb.h"

namespace headgate::testing {
namespace {

// The sum of a worker's counters of packets whose names begin so: a reason that is added is counted.
uint64_t SumOf(const pb::WorkerStats& worker, const std::string& prefix) {
  uint64_t sum = 0;
  const google::protobuf::Descriptor& type = *worker.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *type.field(i);
    if (field.name().starts_with(prefix) && field.name().ends_with("_packets")) {
      sum += worker.GetReflection()->GetUInt64(worker, &field);
    }
  }
  return sum;
}

}  // namespace

Work SumWorkers(const pb::StatsResponse& stats) {
  Work work;
  for (const pb::WorkerStats& worker : stats.workers()) {
    work.queues += worker.queues_size();
    work.alive += worker.frames() != 0 ? 1 : 0;
    work.received += worker.received_packets();
    work.received_bytes += worker.received_bytes();
    work.originated += worker.originated_packets();
    work.consumed += worker.consumed_packets();
    work.transmitted += worker.transmitted_packets();
    work.dropped += SumOf(worker, "dropped_");
    work.in_kernel += SumOf(worker, "kernel_");
    work.frames += worker.frames();
    work.free_frames += worker.free_frames();
    work.held_frames += worker.held_frames();
    work.waiting += worker.waiting_packets();
  }
  return work;
}

void PrintTo(const Work& work, std::ostream* out) {
  *out << work.alive << " workers of " << work.queues << " queues: received " << work.received << ", consumed "
       << work.consumed << ", transmitted " << work.transmitted << ", dropped " << work.dropped
       << ", in the kernel " << work.in_kernel << "; " << work.free_frames << " of " << work.frames
       << " frames free, " << work.held_frames << " held, " << work.waiting << " waiting";
}

}  // namespace headgate::testing
