// SPDX-License-Identifier: Apache-2.0
#include "bench/traffic_options.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace headgate::bench {
namespace {

constexpr double kMaxSeconds = 1e6;

// An option whose text `parse` turns into a value or a reason why not.
template <typename T, typename Parse>
CLI::Option* AddParsed(CLI::App& app, const std::string& name, T& value, Parse parse, const std::string& help) {
  return app.add_option_function<std::string>(
      name,
      [&value, parse, name](const std::string& text) {
        const auto parsed = parse(text);
        if (!parsed.ok()) throw CLI::ValidationError(name, std::string(parsed.status().message()));
        value = *parsed;
      },
      help);
}

CLI::Option* AddSeconds(CLI::App& app, const std::string& name, std::optional<std::chrono::nanoseconds>& value,
                        const std::string& help) {
  return app
      .add_option_function<double>(
          name,
          [&value](double seconds) {
            value = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
          },
          help)
      ->check(CLI::Range(0.001, kMaxSeconds));
}

void AddFrame(CLI::App& app, SendCommand& send) {
  FrameSpec& frame = send.options.frame;
  frame.source = *ParseAddress("198.18.0.1");  // RFC 2544: addresses for benchmarks
  frame.destination = *ParseAddress("198.19.0.1");
  AddParsed(app, "--destination-mac", send.destination_mac, ParseMac,
            "Ethernet address the frames go to; needed unless that is a group");
  app.add_option_function<std::string>(
      "--source-mac",
      [&](const std::string& text) {
        const auto mac = ParseMac(text);
        if (!mac.ok()) throw CLI::ValidationError("--source-mac", std::string(mac.status().message()));
        frame.source_mac = *mac;
        send.has_source_mac = true;
      },
      "Ethernet address the frames come from (the device's own)");
  AddParsed(app, "--source", frame.source, ParseAddress, "Address of the first flow, IPv4 or IPv6 [198.18.0.1]");
  AddParsed(app, "--destination,--dst", frame.destination, ParseAddress, "Address the frames go to [198.19.0.1]");
  app.add_option("--groups", frame.groups, "Multicast groups in turn, from the destination on")
      ->check(CLI::Range(1u, 1u << 24))
      ->capture_default_str();
  static const std::map<std::string, Transport> kTransports = {{"udp", Transport::kUdp}, {"tcp", Transport::kTcp}};
  app.add_option("--protocol,--proto", frame.transport, "udp or tcp [udp]")
      ->type_name("NAME")
      ->transform(CLI::CheckedTransformer(kTransports, CLI::ignore_case).description(""));
  app.add_option("--source-port", frame.source_port, "Port of the first flow")->capture_default_str();
  app.add_option("--destination-port", frame.destination_port, "Port the frames go to")->capture_default_str();
  app.add_option_function<std::string>(
         "--size",
         [&frame](const std::string& text) {
           const auto mix = ParseSizes(text);
           if (!mix.ok()) throw CLI::ValidationError("--size", std::string(mix.status().message()));
           frame.sizes = SpreadSizes(*mix);
           frame.size = 0;
           for (const SizeShare& share : *mix) frame.size = std::max(frame.size, share.size);
         },
         "Bytes of a frame, without FCS; a mix, as 64:7,594:4,1514:1; or imix [64]")
      ->type_name("SIZES");
  app.add_option("--flows", frame.flows, "Flows in turn: 256 source ports an address")
      ->check(CLI::Range(1u, 1u << 24))
      ->capture_default_str();
  app.add_option("--stream", frame.stream, "Number by which receivers tell senders apart")->capture_default_str();
}

// Options of all senders, whatever they send.
bool IsOfAll(const std::string& name) {
  return name == "--help" || name == "--netns" || name == "--from-netns" || name == "--to-netns";
}

void AddGeneve(CLI::App& app, SendCommand& send) {
  send.options.frame.geneve.source = *ParseAddress("198.18.0.1");
  send.options.frame.geneve.destination = *ParseAddress("198.19.0.1");
  CLI::Option* wrap = app.add_option_function<uint32_t>(
                             "--geneve",
                             [&send](uint32_t vni) {
                               send.options.frame.geneve.vni = vni;
                               send.options.frame.wrapped = true;
                             },
                             "Wrap packets in GENEVE of this network (VNI)")
                          ->check(CLI::Range(0u, 0xffffffu))
                          ->type_name("VNI");
  AddParsed(app, "--geneve-source", send.options.frame.geneve.source, ParseAddress,
            "Outer source address [198.18.0.1]")
      ->needs(wrap);
  AddParsed(app, "--geneve-destination", send.options.frame.geneve.destination, ParseAddress,
            "Outer destination [198.19.0.1]")
      ->needs(wrap);
  app.add_option_function<std::vector<std::string>>(
         "--geneve-option",
         [&send](const std::vector<std::string>& texts) {
           for (const std::string& text : texts) {
             const auto option = ParseGeneveOption(text);
             if (!option.ok()) {
               throw CLI::ValidationError("--geneve-option", std::string(option.status().message()));
             }
             send.options.frame.geneve.options.insert(send.options.frame.geneve.options.end(), option->begin(),
                                                      option->end());
           }
         },
         "Option of the GENEVE header, in hexadecimal; may be given several times")
      ->type_name("CLASS:TYPE:HEX")
      ->needs(wrap);
}

// After the options that say what frames are made of: those of a file are sent as they are.
void AddPcap(CLI::App& app, SendCommand& send) {
  const std::vector<CLI::Option*> made = app.get_options([](const CLI::Option* option) {
    return option->get_name().rfind("--", 0) == 0 && !IsOfAll(option->get_name());
  });
  CLI::Option* pcap =
      app.add_option("--pcap", send.pcap, "Send the frames of a capture file as they are")->type_name("FILE");
  for (CLI::Option* option : made) pcap->excludes(option);
  app.add_option("--loop", send.loop, "Times to send the file; 0: no limit")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1'000'000'000}))
      ->needs(pcap)
      ->capture_default_str();
  app.add_option_function<double>(
         "--speed", [&send](double speed) { send.options.speed = speed; },
         "Frames of a file at the times of their capture, so many times as fast [1, unless --rate]")
      ->check(CLI::Range(1e-3, 1e6))
      ->needs(pcap);
}

void AddEngine(CLI::App& app, SendOptions& options) {
  static const std::map<std::string, EngineKind> kEngines = {{"prog", EngineKind::kProg},
                                                             {"xdp", EngineKind::kXdp}};
  app.add_option("--engine", options.engine, "prog: by XDP_REDIRECT of prog runs; xdp: by AF_XDP [prog]")
      ->type_name("NAME")
      ->transform(CLI::CheckedTransformer(kEngines, CLI::ignore_case).description(""));
  app.add_option("--queue", options.queue, "Queue of the device that AF_XDP sends by")
      ->check(CLI::Range(0u, 4095u))
      ->capture_default_str();
}

// What follows from several options together.
void FinishSending(const CLI::App& app, SendCommand& send) {
  FrameSpec& frame = send.options.frame;
  if (!send.pcap.empty()) {
    if (app.count("--rate") == 0 && !send.options.speed) send.options.speed = 1;
    return;
  }
  const IpAddress& destination = frame.wrapped ? frame.geneve.destination : frame.destination;
  if (send.destination_mac) {
    frame.destination_mac = *send.destination_mac;
  } else if (!IsGroup(destination)) {
    throw CLI::RequiredError("--destination-mac");
  } else if (frame.wrapped) {
    frame.destination_mac = GroupMac(destination);
  } else {
    frame.group_macs = true;
  }
}

void AddSending(CLI::App& app, SendCommand& send) {
  SendOptions& options = send.options;
  AddFrame(app, send);
  AddGeneve(app, send);
  AddPcap(app, send);
  AddEngine(app, options);
  app.add_option("--rate,--pps", options.packets_per_second, "Frames a second; 0: as fast as it goes")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1'000'000'000}))
      ->excludes("--speed")
      ->capture_default_str();
  app.add_option("--count", options.count, "Frames to send; 0: no limit")->capture_default_str();
  AddSeconds(app, "--duration", options.duration, "Seconds to send for");
  app.add_option("--cpu", options.scheduling.cpu, "CPU to send on; into a veth, also that of its receiving end")
      ->check(CLI::Range(0, 4095));
  app.add_flag_callback(
      "--realtime", [&options] { options.scheduling.realtime = 1; },
      "Send before all ordinary work of the machine");
}

}  // namespace

void AddSend(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand("send", "Sends numbered frames out of a device, and counts those it took");
  auto send = std::make_shared<SendCommand>();
  app->add_option("device", send->options.device, "Device to send out of")->required();
  app->add_option("--netns", send->options.netns, "Its network namespace: a name or a path");
  AddSending(*app, *send);
  app->final_callback([&command, app, send] {
    FinishSending(*app, *send);
    command.verb = *send;
  });
}

void AddReceive(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand(
      "receive", "Counts what arrives at a device: lost, doubled and reordered frames, and their latency");
  auto receive = std::make_shared<ReceiveCommand>();
  app->add_option("device", receive->options.device, "Device to receive at")->required();
  app->add_option("--netns", receive->options.netns, "Its network namespace: a name or a path");
  app->add_flag("--pass", receive->options.pass, "Let frames go on to the network stack (they are dropped)");
  app->add_flag("--count-only", receive->options.count_only, "Count frames without looking into them");
  app->add_option("--count", receive->count, "Frames after which to end; 0: no limit")->capture_default_str();
  AddSeconds(*app, "--duration", receive->duration, "Seconds after which to end");
  app->final_callback([&command, receive] { command.verb = *receive; });
}

void AddRun(CLI::App& root, Command& command) {
  CLI::App* app = root.add_subcommand("run", "Sends, receives, and says whether anything was lost in between");
  auto run = std::make_shared<RunCommand>();
  app->add_option("from", run->send.options.device, "Device to send out of")->required();
  app->add_option("to", run->receive.device, "Device to receive at")->required();
  app->add_option("--from-netns", run->send.options.netns, "Network namespace of the first: a name or a path");
  app->add_option("--to-netns", run->receive.netns, "Network namespace of the second: a name or a path");
  AddSending(*app, run->send);
  app->final_callback([&command, app, run] {
    FinishSending(*app, run->send);
    command.verb = *run;
  });
}

}  // namespace headgate::bench
