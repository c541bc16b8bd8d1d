// SPDX-License-Identifier: Apache-2.0
//
// A resolver in a host between two others, whose answers are compared as text.
#pragma once

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/resolver/resolver.h"
#include "tests/harness/lab.h"

namespace headgate::testing {

// gw g0 (10.0.0.1, 2001:db8::1) -- p0 (.2, ::2) peer
//    g1 (10.0.1.1, 2001:db8:1::1) -- q0 (.2, ::2) other
// The gateway gives up neighbours after three tenths of a second.
class ResolverTest : public ::testing::Test {
 protected:
  static constexpr std::chrono::milliseconds kNever = std::chrono::hours(1);
  // What is noticed, is noticed from messages alone, or from looking often, too.
  static constexpr ResolverOptions kByMessages{.retry = kNever, .verify = kNever};
  static constexpr ResolverOptions kOften{.retry = std::chrono::milliseconds(100),
                                          .verify = std::chrono::milliseconds(200),
                                          .calm = std::chrono::milliseconds(10)};

  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("resolver", std::vector<std::string>{"gw", "peer", "other"});
    lab_->Link("gw", "g0", "peer", "p0");
    lab_->Link("gw", "g1", "other", "q0");
    SetUpDevice("gw", "g0", "10.0.0.1", "2001:db8::1");
    SetUpDevice("gw", "g1", "10.0.1.1", "2001:db8:1::1");
    SetUpDevice("peer", "p0", "10.0.0.2", "2001:db8::2");
    SetUpDevice("other", "q0", "10.0.1.2", "2001:db8:1::2");
  }
  void TearDown() override {
    resolver_.reset();
    // It says that answers have changed only when they have.
    for (size_t i = 1; i < changes_.size(); ++i) EXPECT_NE(changes_[i - 1], changes_[i]) << "change " << i;
    lab_.reset();
  }

  void SetUpDevice(const std::string& ns, const std::string& device, const std::string& v4,
                   const std::string& v6) {
    const std::string ipv6 = absl::StrCat("net.ipv6.conf.", device, ".");
    lab_->In(ns, absl::StrCat("sysctl -qw ", ipv6, "accept_dad=0 ", ipv6, "disable_ipv6=0 net.ipv4.neigh.", device,
                              ".retrans_time_ms=100 net.ipv6.neigh.", device, ".retrans_time_ms=100"));
    lab_->Ip(ns, absl::StrCat("addr add ", v4, "/24 dev ", device));
    lab_->Ip(ns, absl::StrCat("addr add ", v6, "/64 dev ", device, " nodad"));
  }

  // `prepare`: the thread that starts it.
  void Start(
      const ResolverOptions& options, const std::function<void()>& changed = [] {},
      const std::function<void()>& prepare = [] {}) {
    resolver_.reset();
    absl::StatusOr<std::unique_ptr<Resolver>> started;
    std::thread([&] {
      const int inside = open(("/run/netns/" + lab_->Name("gw")).c_str(), O_RDONLY | O_CLOEXEC);
      ASSERT_EQ(setns(inside, CLONE_NEWNET), 0);
      close(inside);
      prepare();
      started = Resolver::Start(
          [this, changed] {
            {
              const std::lock_guard lock(mutex_);
              changes_.push_back(resolver_->Resolved());
            }
            changed();
          },
          options);
    }).join();
    ASSERT_TRUE(started.ok()) << started.status();
    resolver_ = *std::move(started);
  }
  // Addresses, and devices by name where they are given: "10.0.0.2" or "fe80::1%g0".
  void Want(const std::vector<std::string>& wanted) {
    std::set<Destination> destinations;
    for (const std::string& one : wanted) destinations.insert(Parse(one));
    {
      const std::lock_guard lock(mutex_);
      changes_.clear();
    }
    resolver_->Want(destinations);
  }
  size_t Changes() {
    const std::lock_guard lock(mutex_);
    return changes_.size();
  }
  // "g0 02:00:00:00:00:01", or the error's message.
  std::string Answer(const std::string& destination) {
    const std::map<Destination, Resolver::Answer> answers = resolver_->Resolved();
    const auto found = answers.find(Parse(destination));
    if (found == answers.end()) return "not wanted";
    if (!found->second.ok()) return std::string(found->second.status().message());
    return absl::StrCat(found->second->ifindex == Index("g1") ? "g1" : "g0", " ", ToString(found->second->mac));
  }
  // Sooner or later.
  ::testing::AssertionResult Is(const std::string& destination, const std::string& expected) {
    if (WaitFor([&] { return Answer(destination) == expected; })) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure()
           << destination << ": \"" << Answer(destination) << "\", expected \"" << expected << "\"";
  }
  // By these neighbours.
  std::string Peer() { return absl::StrCat("g0 ", lab_->Mac("peer", "p0")); }
  std::string Other() { return absl::StrCat("g1 ", lab_->Mac("other", "q0")); }

  uint32_t Index(const std::string& device) {
    uint32_t& index = indexes_[device];
    if (index == 0) {
      const InNetns inside(lab_->Name("gw"));
      index = if_nametoindex(device.c_str());
    }
    return index;
  }
  Destination Parse(const std::string& text) {
    const size_t end = text.find('%');
    return {.address = ParseAddress(text.substr(0, end)).value(),
            .ifindex = end == std::string::npos ? 0 : Index(text.substr(end + 1))};
  }
  std::string Gw(const std::string& arguments) { return lab_->Ip("gw", arguments); }
  Lab& lab() { return *lab_; }
  Resolver& resolver() { return *resolver_; }

 private:
  std::unique_ptr<Lab> lab_;
  std::map<std::string, uint32_t> indexes_;
  std::mutex mutex_;  // guards changes_
  std::vector<std::map<Destination, Resolver::Answer>> changes_;
  std::unique_ptr<Resolver> resolver_;
};

}  // namespace headgate::testing
