// SPDX-License-Identifier: Apache-2.0
//
// The real BPF programs on real maps, loaded by the real loader below a BPF file system of the test's own, and
// run a frame at a time by BPF_PROG_TEST_RUN. No device is attached to.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "agent/base/fd.h"
#include "agent/control/compiler.h"
#include "agent/dataplane/bpf_dataplane.h"
#include "tests/harness/packet.h"

namespace headgate::testing {

// Skips the test, visibly, where the programs cannot be loaded for want of privilege.
#define HG_REQUIRE_BPF() \
  if (const std::string why = ::headgate::testing::WhyNoBpf(); !why.empty()) GTEST_SKIP() << "no BPF: " << why
std::string WhyNoBpf();

struct RunResult {
  uint32_t verdict = 0;  // XDP_*
  Bytes output;
  Bytes metadata;  // before it
  // What moved: reason of the port's counter, rule id and its packets.
  std::string reason;
};

class Program {
 public:
  // `name` makes the pins' directory, which is removed before and after.
  explicit Program(const std::string& name, TableSizes sizes = {.max_entries = 16384, .max_prefixes = 16384},
                   bool flow_cache = true);
  ~Program();

  // Ties a port to an ifindex for test runs, without attaching anything. Test runs come in by `kIngress`.
  static constexpr uint32_t kIngressIfindex = 1;  // lo: a test run needs a device that exists
  void BindPort(uint32_t port, uint32_t ifindex, const std::string& mac = "02:00:00:00:0a:01");
  // Compiles and puts in force.
  void Apply(const State& state);
  // How frames of test runs arrive, from now on.
  struct Ingress {
    uint32_t ifindex = kIngressIfindex;
    uint32_t queue = 0;
    uint32_t metadata = 0;  // bytes of metadata before the frame, a multiple of 4: they take headroom
  };
  void SetIngress(const Ingress& ingress) { ingress_ = ingress; }
  // One packet through the program that devices run, or the same one `repeat` times in a row: then the output and
  // the verdict are the last one's. Throws when the run itself fails.
  uint32_t Verdict(const Bytes& frame, Bytes* output = nullptr, int repeat = 1, Bytes* metadata = nullptr);
  // The same with the name of the one reason that counted; several or none are a test failure.
  RunResult Run(const Bytes& frame, uint32_t port = 1);

  BpfDataplane& dataplane() { return *dataplane_; }
  const std::string& pins() const { return pins_; }
  Fd OpenMap(const std::string& name) const;

 private:
  std::string bpffs_;
  std::string pins_;
  std::unique_ptr<BpfDataplane> dataplane_;
  Compiler compiler_;
  uint64_t epoch_ = 0;
  Ingress ingress_;
  Fd program_;
};

const char* ReasonName(uint32_t reason);

}  // namespace headgate::testing
