// SPDX-License-Identifier: Apache-2.0
//
// A Gateway within a network namespace that has devices to forward to: what route, redirect and steer need besides
// the program. Test runs come in by in0, out0 is the interface "out", and side0 is a device of nobody's.
#pragma once

#include <absl/strings/str_cat.h>
#include <net/if.h>

#include <string>

#include "tests/bpf/gateway.h"
#include "tests/harness/lab.h"

namespace headgate::testing {

struct LabGateway {
  static constexpr char kIn[] = "02:00:00:00:0a:01", kOut[] = "02:00:00:00:0a:02", kSide[] = "02:00:00:00:0a:03";
  static constexpr int kQueues = HG_QUEUES_PER_PORT + 2;

  explicit LabGateway(const std::string& name)
      : lab("bpf-" + name, {"gw", "net"}), inside(Devices(lab)), gateway(name, {"in", "out", "gone"}) {
    gateway.program().SetIngress({.ifindex = Index("in0")});
    gateway.Bind("in", Index("in0"), kIn);
    gateway.Bind("out", Index("out0"), kOut);
  }
  static uint32_t Index(const char* device) { return if_nametoindex(device); }

  Lab lab;
  InNetns inside;
  Gateway gateway;

 private:
  static std::string Devices(Lab& lab) {
    const std::pair<std::string, std::string> devices[] = {{"in", kIn}, {"out", kOut}, {"side", kSide}};
    for (const auto& [device, mac] : devices) {
      lab.Ip("gw", absl::StrCat("link add ", device, "0 address ", mac, " numrxqueues ", kQueues, " numtxqueues ",
                                kQueues, " type veth peer name ", device, "1 netns ", lab.Name("net")));
      lab.Ip("gw", absl::StrCat("link set ", device, "0 up"));
      lab.Ip("net", absl::StrCat("link set ", device, "1 up"));
    }
    return lab.Name("gw");
  }
};

// The checksums of a sound IP frame, computed anew over all that they cover.
void ExpectChecksums(const Bytes& frame);

}  // namespace headgate::testing
