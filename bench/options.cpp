// SPDX-License-Identifier: Apache-2.0
#include "bench/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <utility>

#include "bench/traffic_options.h"

namespace headgate::bench {
namespace {

constexpr char kFooter[] =
    "\nExit status: 0 done, 1 failed, 2 wrong usage, 3 frames were lost (run). Details and examples: man hgbench.";
// Eight times as many as flows that the cache has room for (HG_FLOWS): of a thousand less than one is remembered.
constexpr uint32_t kMinCachelessHeaders = 16'384;

void AddRounds(CLI::App& app, int& rounds, const std::string& help) {
  app.add_option("--rounds", rounds, help)->check(CLI::Range(1, 1000))->capture_default_str();
}

void AddWait(CLI::App& app, bool& wait) {
  app.add_flag("--wait", wait, "Wait while another benchmark runs, instead of failing");
}

void AddPlacement(CLI::App& app, Placement& placement) {
  static const std::map<std::string, Placement> kPlacements = {{"same", Placement::kSame},
                                                               {"split", Placement::kSplit}};
  app.add_option("--placement", placement,
                 "same: all on CPU 0; split: the sender on CPU 0, gateway and receiver on CPU 1 [same]")
      ->type_name("NAME")
      ->transform(CLI::CheckedTransformer(kPlacements, CLI::ignore_case).description(""));
}

void AddRedirect(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "redirect",
      "Rate of Headgate's redirect with 1,000 rules and all counters, against a bare redirect program");
  auto redirect = std::make_shared<RedirectOptions>();
  AddRounds(*app, redirect->rounds, "Measurements of each");
  app->add_option("--seconds", redirect->seconds, "Seconds of a measurement")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app->add_option("--sizes", redirect->sizes, "Bytes of a frame, without FCS [64 1400]")->delimiter(',');
  AddPlacement(*app, redirect->placement);
  app->add_option("--flows", redirect->flows, "Flows in turn")
      ->check(CLI::Range(1u, 1u << 20))
      ->capture_default_str();
  app->add_flag("--realtime", redirect->realtime, "Run before all ordinary work of the machine");
  AddWait(*app, redirect->wait);
  app->final_callback([&command, redirect] { command.verb = *redirect; });
}

void AddFilter(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "filter", "What classifying costs as rules grow in number, against DPDK's rte_acl and nftables");
  auto filter = std::make_shared<FilterOptions>();
  AddRounds(*app, filter->rounds, "Measurements of each");
  app->add_option("--seconds", filter->seconds, "Seconds of a measurement of a packet rate")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app->add_option("--headers", filter->headers, "Different headers")
      ->check(CLI::Range(100u, 1u << 24))
      ->capture_default_str();
  const auto names = [](std::vector<std::string> all) { return CLI::IsMember(std::move(all)); };
  app->add_option("--sets", filter->sets, "ClassBench sets [acl1 fw1 ipc1]")
      ->delimiter(',')
      ->check(names({"acl1", "fw1", "ipc1"}).description(""));
  app->add_option("--sizes", filter->sizes, "Numbers of rules [100 1k 8k 100k]")
      ->delimiter(',')
      ->check(names({"100", "1k", "8k", "100k"}).description(""));
  app->add_option("--rate-sizes", filter->rate_sizes, "Numbers of rules for packet rates, or none [1k 8k]")
      ->delimiter(',')
      ->check(names({"none", "100", "1k", "8k", "100k"}).description(""));
  app->add_flag("--flow-cache,!--no-flow-cache", filter->flow_cache, "Load the gateway with its flow cache [on]");
  app->add_option("--churn", filter->churn,
                  "Changes after which the first set's last size is measured once more; 0: not at all")
      ->check(CLI::Range(0u, 10'000'000u))
      ->capture_default_str();
  app->add_option("--seed", filter->seed, "Of what is drawn by chance")->capture_default_str();
  app->add_flag("--realtime", filter->realtime, "Run before all ordinary work of the machine");
  AddWait(*app, filter->wait);
  app->final_callback([&command, filter] {
    if (filter->flow_cache && filter->headers < kMinCachelessHeaders) {
      throw CLI::ValidationError("--headers", "the flow cache would remember some of so few: at least " +
                                                  std::to_string(kMinCachelessHeaders) + ", or --no-flow-cache");
    }
    std::erase(filter->rate_sizes, "none");
    command.verb = *filter;
  });
}

void AddControl(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "control", "How fast a running agent takes rules, how soon they are in the data path, and its memory");
  auto control = std::make_shared<ControlOptions>();
  AddRounds(*app, control->rounds, "Repetitions of everything, each with a fresh agent");
  app->add_option("--agent", control->agent, "The headgated to measure")->take_last()->capture_default_str();
  app->add_option("--rules", control->rule_set, "ClassBench set of the tests")->capture_default_str();
  app->add_option("--changes", control->changes, "Single changes whose latency is measured, in a round")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app->add_option("--updates", control->updates, "Changes to send without waiting, in a round")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  app->add_option("--prefixes", control->prefixes, "Prefixes of the large set")
      ->check(CLI::Range(2, 1'000'000))
      ->capture_default_str();
  app->add_option("--directory", control->directory, "Where the agent keeps its state meanwhile: on a real disk")
      ->capture_default_str();
  AddWait(*app, control->wait);
  app->final_callback([&command, control] { command.verb = *control; });
}

void AddReplace(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "replace", "How long packets take while all rules are replaced, against when nothing changes");
  auto replace = std::make_shared<ReplaceOptions>();
  AddRounds(*app, replace->rounds, "Measurements of each");
  app->add_option("--seconds", replace->seconds, "Seconds of a measurement, and more for the last replacement")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app->add_option("--agent", replace->agent, "The headgated to measure")->take_last()->capture_default_str();
  app->add_option("--rules", replace->rule_set, "ClassBench set of the tests")->capture_default_str();
  app->add_option("--rate", replace->packets_per_second, "Frames a second")
      ->check(CLI::Range(uint64_t{1000}, uint64_t{10'000'000}))
      ->capture_default_str();
  app->add_option("--flows", replace->flows, "Flows in turn")->check(CLI::Range(1u, 256u))->capture_default_str();
  app->add_flag("--flow-cache,!--no-flow-cache", replace->flow_cache,
                "Start the agent with its flow cache, which would hold all flows [off]");
  app->add_option("--directory", replace->directory, "Where the agent keeps its state meanwhile: on a real disk")
      ->capture_default_str();
  app->add_flag("--realtime,!--no-realtime", replace->realtime,
                "Send before all ordinary work of the machine [on]");
  AddWait(*app, replace->wait);
  app->final_callback([&command, replace] { command.verb = *replace; });
}

void AddSteer(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "steer", "UDP received and answered by Headgate's AF_XDP workers, against recvmmsg and socat");
  auto steer = std::make_shared<SteerOptions>();
  AddRounds(*app, steer->rounds, "Repetitions of each");
  app->add_option("--seconds", steer->seconds, "Seconds of a measurement, of which a case takes several")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app->add_option("--agent", steer->agent, "The headgated to measure")->take_last()->capture_default_str();
  app->add_option("--handlers", steer->handlers, "What is done with datagrams [count echo]")
      ->delimiter(',')
      ->check(CLI::IsMember({"count", "echo"}).description(""));
  app->add_option("--sizes", steer->sizes, "Bytes of a frame, without FCS [64 1400]")
      ->delimiter(',')
      ->check(CLI::Range(60u, 1514u).description(""));
  app->add_option("--flows", steer->flows, "Flows in turn")->check(CLI::Range(1u, 65'536u))->capture_default_str();
  app->add_flag("--socat,!--no-socat", steer->socat, "Measure socat too, where it is installed [on]");
  app->add_flag("--realtime,!--no-realtime", steer->realtime,
                "Run what is at a rate before all ordinary work of the machine [on]");
  app->add_option("--directory", steer->directory, "Where the agent keeps its state meanwhile")
      ->capture_default_str();
  AddWait(*app, steer->wait);
  app->final_callback([&command, steer] { command.verb = *steer; });
}

void AddMulticast(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "multicast", "A group's packets copied to many legs, against the kernel's ip_mroute and a relay by sockets");
  auto multicast = std::make_shared<MulticastOptions>();
  AddRounds(*app, multicast->rounds, "Repetitions of each");
  app->add_option("--seconds", multicast->seconds, "Seconds of a measurement, of which a case takes several")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app->add_option("--agent", multicast->agent, "The headgated to measure")->take_last()->capture_default_str();
  const auto names = [](std::vector<std::string> all) { return CLI::IsMember(std::move(all)).description(""); };
  app->add_option("--paths", multicast->paths, "Who of Headgate makes copies [kernel userspace]")
      ->delimiter(',')
      ->check(names({"kernel", "userspace"}));
  app->add_option("--kernel-legs", multicast->kernel_legs, "Legs, each behind its own device [1 8 50]")
      ->delimiter(',')
      ->check(CLI::Range(1u, MulticastOptions::kMaxKernelLegs).description(""));
  app->add_option("--userspace-legs", multicast->userspace_legs, "Legs, all behind one device [1 8 50 500]")
      ->delimiter(',')
      ->check(CLI::Range(1u, MulticastOptions::kMaxUserspaceLegs).description(""));
  app->add_option("--sizes", multicast->sizes, "Bytes of a frame, without FCS [64 1400]")
      ->delimiter(',')
      ->check(CLI::Range(60u, 1514u).description(""));
  app->add_option(
         "--baselines", multicast->baselines,
         "Relays to compare with, or none; one that is not installed is left out [ip_mroute socket_relay]")
      ->delimiter(',')
      ->check(names({"none", "ip_mroute", "socket_relay"}));
  AddPlacement(*app, multicast->placement);
  app->add_flag("--latency,!--no-latency", multicast->latency, "Measure latency at half the loss-free rate [on]");
  app->add_flag("--realtime,!--no-realtime", multicast->realtime,
                "Run what is at a rate before all ordinary work of the machine [on]");
  app->add_option("--directory", multicast->directory, "Where processes keep their state meanwhile")
      ->capture_default_str();
  app->add_option("--chart", multicast->chart, "Write rates over legs to PREFIX.csv and PREFIX.svg")
      ->type_name("PREFIX");
  AddWait(*app, multicast->wait);
  app->final_callback([&command, multicast] {
    std::erase(multicast->baselines, "none");
    command.verb = *multicast;
  });
}

}  // namespace

std::optional<Command> ParseCommand(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                                    int& exit_code) {
  Command command;
  CLI::App app("hgbench: traffic generator, meter and benchmarks of Headgate");
  app.name("hgbench");
  app.set_version_flag("--version", std::string("hgbench ") + HG_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--json", command.json, "File for the results as JSON; - for standard output")->type_name("FILE");
  app.add_flag("-q,--quiet", command.quiet, "No progress on standard error");
  AddSend(app, command);
  AddReceive(app, command);
  AddRun(app, command);
  AddRedirect(app, command);
  AddFilter(app, command);
  AddControl(app, command);
  AddReplace(app, command);
  AddSteer(app, command);
  AddMulticast(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error, out, err) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
    return std::nullopt;
  }
  return command;
}

}  // namespace headgate::bench
