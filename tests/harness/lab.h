// SPDX-License-Identifier: Apache-2.0
//
// Network namespaces and veth pairs for one test, named after it, removed before and after.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace headgate::testing {

// Skips the test, visibly, where namespaces cannot be made or the programs cannot be loaded.
#define HG_REQUIRE_LAB() \
  if (const std::string why = ::headgate::testing::WhyNoLab(); !why.empty()) GTEST_SKIP() << "no lab: " << why
std::string WhyNoLab();

// Runs a command; throws with its output when it fails.
std::string Shell(const std::string& command);
// Its exit code, output ignored.
int TryShell(const std::string& command);

// Tries until `condition` holds; false after `timeout`.
bool WaitFor(const std::function<bool()>& condition, std::chrono::milliseconds timeout = std::chrono::seconds(10));

class Lab {
 public:
  // `name`: of the test, short: it begins the names of namespaces.
  explicit Lab(const std::string& name, const std::vector<std::string>& namespaces);
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  // The full name of one of the lab's namespaces.
  std::string Name(const std::string& short_name) const { return prefix_ + short_name; }
  // A veth pair between two namespaces, both ends up; ends have generic receive offload, which gives them the NAPI
  // that redirects into them need, and no checksum or segmentation offload.
  void Link(const std::string& ns_a, const std::string& device_a, const std::string& ns_b,
            const std::string& device_b, int mtu = 1500);
  // `ip -n NAMESPACE ARGUMENTS`.
  std::string Ip(const std::string& ns, const std::string& arguments);
  // A command in a namespace's network, everything else as outside.
  std::string In(const std::string& ns, const std::string& command);
  std::string Mac(const std::string& ns, const std::string& device);
  // A directory of this test's own, removed with the lab.
  const std::string& directory() const { return directory_; }

 private:
  void Remove() const;
  std::string prefix_;
  std::string directory_;
  std::vector<std::string> namespaces_;
  // Tests that run side by side number their devices apart: the kernel's XDP tracepoints are system-wide and name
  // devices by number.
  int next_index_;
};

// The calling thread enters a namespace for as long as this lives.
class InNetns {
 public:
  explicit InNetns(const std::string& full_name);
  ~InNetns();
  InNetns(const InNetns&) = delete;
  InNetns& operator=(const InNetns&) = delete;

 private:
  int before_;
};

}  // namespace headgate::testing
