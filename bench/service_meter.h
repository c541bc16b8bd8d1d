// SPDX-License-Identifier: Apache-2.0
//
// What a service does with datagrams: as fast as they can be sent, and at the highest rate that it loses next to
// none of.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <memory>
#include <vector>

#include "bench/receiver.h"
#include "bench/sender.h"
#include "bench/service.h"

namespace headgate::bench {

// One run. Shares are 0 to 1.
struct ServiceSample {
  double rate = 0;     // delivered a second: datagrams received, or answered and come back, or copies
  double offered = 0;  // datagrams a second that the receiving device took
  double loss = 0;     // share of what those that the receiving device took would have made that was not delivered
  double refused = 0;  // share of those that were made that the receiving device had no room for
  double cpu_share = 0;      // of the machine's CPUs: the receiving device's NAPI and the service
  double machine_share = 0;  // of the machine's CPUs: all that ran, the sender and others' work too
  double napi_ns = 0;        // that NAPI ran for each delivered
  double service_ns = 0;     // that the service ran for each delivered
  double per_cpu_s = 0;      // delivered for each second that NAPI and service ran
  bool at_the_most = false;  // the sender did not come to the rate it was asked for
};

struct ServicePath {
  std::string netns, device;  // that datagrams come in by, with NAPI
  int cpu = 0;                // of that NAPI and of the service
  std::string sender_netns, sender_device;
  int sender_cpu = 0;
  FrameSpec frame;
  uint32_t copies = 1;    // delivered of a datagram
  bool answered = false;  // delivered is what comes back to the sender's device
  double seconds = 1;     // of a run
  // Runs at a rate come before the machine's ordinary work, and NAPI before the service, as interrupts do. What is
  // to be lost then is lost for want of time, and not because something else ran.
  bool realtime = true;
  int nice = 0;  // of NAPI in all other runs; sender and service have their creator's
};

class ServiceMeter {
 public:
  static constexpr double kMaxLoss = 1e-4;

  // Answers are received at the sender's device while it lives.
  static absl::StatusOr<std::unique_ptr<ServiceMeter>> Open(const ServicePath& path, Service& service);

  // Datagrams of all flows, so that what is set up for the first of a flow is there.
  absl::Status WarmUp();
  // At a rate, in datagrams a second; 0: as fast as it goes.
  absl::StatusOr<ServiceSample> Run(uint64_t rate);
  // The run at the highest rate of datagrams at which the loss was below kMaxLoss; of zeros when there is none.
  absl::StatusOr<ServiceSample> FindLossless(uint64_t start, const std::atomic<bool>& stop);
  // The most that was delivered a second in any run.
  double peak() const { return peak_; }

 private:
  // Of one moment: reading takes a while, of which this is the middle.
  struct Reading {
    double seconds = 0, napi_seconds = 0, service_seconds = 0;  // since some time ago
    double delivered = 0, sent = 0;
  };

  ServiceMeter(const ServicePath& path, Service& service) : path_(path), service_(service) {}
  absl::StatusOr<std::unique_ptr<Sender>> OpenSender(uint64_t rate, uint64_t count) const;
  absl::StatusOr<uint64_t> Delivered() const;
  absl::Status Begin();
  absl::StatusOr<uint64_t> End(const Sender& sender);
  absl::Status ScheduleAll(bool realtime) const;
  absl::StatusOr<ServiceSample> Measure(Sender& sender);
  absl::Status AddClocks(const Sender& sender, Reading& reading) const;
  absl::StatusOr<Reading> Read(const Sender& sender) const;

  ServicePath path_;
  Service& service_;
  double peak_ = 0;
  std::unique_ptr<Receiver> receiver_;
  uint64_t replies_ = 0;                  // that had come before a run
  std::vector<pid_t> napi_, reply_napi_;  // of the receiving device and of the sender's
};

}  // namespace headgate::bench
