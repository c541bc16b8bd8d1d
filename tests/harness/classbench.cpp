// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/classbench.h"

#include <netinet/in.h>

#include <cstdio>
#include <stdexcept>

namespace headgate::testing {
namespace {

bool Passes(size_t index) { return (index * 2654435761U >> 16 & 1) != 0; }

std::shared_ptr<const Action> ActionOf(size_t index) {
  static const auto kPass = std::make_shared<const Action>(Action{.verdict = Pass{}});
  static const auto kDrop = std::make_shared<const Action>(Action{.verdict = Drop{}});
  return Passes(index) ? kPass : kDrop;
}

void Number(std::vector<Rule>& rules) {
  for (size_t i = 0; i < rules.size(); ++i) {
    rules[i].name = "r" + std::to_string(i);
    rules[i].priority = static_cast<uint32_t>(rules.size() - i);
    rules[i].id = static_cast<uint32_t>(i + 1);
    rules[i].action = ActionOf(i);
  }
}

PortRanges RangeOrAny(unsigned first, unsigned last) {
  if (first == 0 && last == 0xffff) return {};
  return {PortRange{static_cast<uint16_t>(first), static_cast<uint16_t>(last)}};
}

bool HasPorts(uint8_t protocol) { return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP; }

bool InRanges(const PortRanges& ranges, uint16_t port) {
  for (const PortRange& range : ranges) {
    if (port >= range.first && port <= range.last) return true;
  }
  return ranges.empty();
}

// The lowest, the highest or any number of a range: corners find off-by-one errors.
uint32_t Draw(uint32_t first, uint32_t last, std::mt19937_64& random) {
  switch (random() % 4) {
    case 0:
      return first;
    case 1:
      return last;
    default:
      return first + static_cast<uint32_t>(random() % (static_cast<uint64_t>(last) - first + 1));
  }
}

std::array<uint32_t, 4> DrawAddress(const std::optional<Prefix>& prefix, Family family, std::mt19937_64& random) {
  std::array<uint32_t, 4> words{};
  const uint64_t corner = random() % 4;
  for (int i = 0; i < (family == Family::kIpv4 ? 1 : 4); ++i) {
    const uint32_t mask = prefix ? WordMask(prefix->length, i) : 0;
    const uint32_t host = corner == 0 ? 0 : corner == 1 ? 0xffffffffU : static_cast<uint32_t>(random());
    words[i] = (prefix ? prefix->address.words[i] : 0) | (host & ~mask);
  }
  return words;
}

uint16_t DrawPort(const PortRanges& ranges, std::mt19937_64& random) {
  const PortRange range = ranges.empty() ? PortRange{} : ranges[random() % ranges.size()];
  return static_cast<uint16_t>(Draw(range.first, range.last, random));
}

}  // namespace

std::vector<Rule> LoadClassBench(const std::string& set) {
  const std::string command = std::string("xz -dc ") + HG_TEST_DATA "/classbench/" + set + ".rules.xz";
  FILE* file = popen(command.c_str(), "r");
  if (file == nullptr) throw std::runtime_error("cannot run: " + command);
  std::vector<Rule> rules;
  char line[256];
  while (fgets(line, sizeof(line), file) != nullptr) {
    unsigned s[4], d[4], slen, dlen, sport[2], dport[2], protocol, mask;
    if (sscanf(line, "@%u.%u.%u.%u/%u %u.%u.%u.%u/%u %u : %u %u : %u %x/%x", &s[0], &s[1], &s[2], &s[3], &slen,
               &d[0], &d[1], &d[2], &d[3], &dlen, &sport[0], &sport[1], &dport[0], &dport[1], &protocol,
               &mask) != 16) {
      throw std::runtime_error("not a ClassBench rule: " + std::string(line));
    }
    const auto prefix = [](const unsigned(&bytes)[4], unsigned length) -> std::optional<Prefix> {
      if (length == 0) return std::nullopt;
      Prefix p;
      p.length = static_cast<uint8_t>(length);
      p.address.words[0] = (bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3]) & WordMask(length, 0);
      return p;
    };
    Rule rule;
    rule.match.source = prefix(s, slen);
    rule.match.destination = prefix(d, dlen);
    rule.match.source_ports = RangeOrAny(sport[0], sport[1]);
    rule.match.destination_ports = RangeOrAny(dport[0], dport[1]);
    if (mask != 0) rule.match.protocol = static_cast<uint8_t>(protocol);
    rules.push_back(std::move(rule));
  }
  if (pclose(file) != 0 || rules.empty()) throw std::runtime_error("failed: " + command);
  Number(rules);
  return rules;
}

std::vector<Rule> MakeIpv6Rules(size_t count, std::mt19937_64& random) {
  // Prefixes nest: most are made longer from one made before, as an address plan would have them.
  std::vector<Prefix> pool;
  const auto make_prefix = [&]() -> std::optional<Prefix> {
    if (random() % 8 == 0) return std::nullopt;
    Prefix prefix;
    prefix.address.family = Family::kIpv6;
    if (!pool.empty() && random() % 4 != 0) prefix = pool[random() % pool.size()];
    static constexpr int kLengths[] = {32, 40, 44, 48, 52, 56, 60, 64, 96, 112, 120, 124, 127, 128};
    int length = kLengths[random() % std::size(kLengths)];
    if (length < prefix.length) length = prefix.length;
    for (int i = 0; i < 4; ++i) {
      const uint32_t fresh = WordMask(length, i) & ~WordMask(prefix.length, i);
      prefix.address.words[i] |= static_cast<uint32_t>(random()) & fresh;
    }
    if (prefix.length == 0) prefix.address.words[0] = 0x20010db8 & WordMask(length, 0);
    prefix.length = static_cast<uint8_t>(length);
    pool.push_back(prefix);
    return prefix;
  };
  std::vector<Rule> rules(count);
  for (Rule& rule : rules) {
    rule.match.source = make_prefix();
    rule.match.destination = make_prefix();
    static constexpr int kProtocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6, IPPROTO_GRE, -1};
    const int protocol = kProtocols[random() % std::size(kProtocols)];
    if (protocol >= 0) rule.match.protocol = static_cast<uint8_t>(protocol);
    if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
      const auto ranges = [&]() -> PortRanges {
        switch (random() % 4) {
          case 0:
            return {};
          case 1:
            return {PortRange{1024, 65535}};
          case 2: {
            const auto port = static_cast<uint16_t>(random() % 1024);
            return {PortRange{port, port}};
          }
          default: {
            const auto first = static_cast<uint16_t>(random() % 60000);
            return {PortRange{first, static_cast<uint16_t>(first + random() % 5000)}};
          }
        }
      };
      rule.match.source_ports = ranges();
      rule.match.destination_ports = ranges();
    }
    // A rule that matches everything would hide those below it.
    if (!rule.match.source && !rule.match.destination)
      rule.match.destination = Prefix{{{0x20010db8, 0, 0, 1}, Family::kIpv6}, 128};
  }
  Number(rules);
  return rules;
}

Header DrawHeader(const std::vector<Rule>& rules, std::mt19937_64& random) {
  const Match& match = rules[random() % rules.size()].match;
  const Match& other = random() % 8 == 0 ? rules[random() % rules.size()].match : match;
  Header header;
  const auto& family = match.source ? match.source : match.destination;
  header.family = family ? family->address.family : Family::kIpv4;
  const auto of_family = [&](const std::optional<Prefix>& prefix) -> std::optional<Prefix> {
    return prefix && prefix->address.family == header.family ? prefix : std::nullopt;
  };
  header.source = DrawAddress(of_family(match.source), header.family, random);
  header.destination = DrawAddress(of_family(other.destination), header.family, random);
  static constexpr uint8_t kUsual[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP};
  header.protocol = match.protocol ? *match.protocol : kUsual[random() % std::size(kUsual)];
  if (HasPorts(header.protocol)) {
    header.source_port = DrawPort(match.source_ports, random);
    header.destination_port = DrawPort(other.destination_ports, random);
  }
  // Of what else is asked for, the packet now and then has what is beside it.
  const auto beside = [&random]() -> uint8_t { return random() % 4 == 0 ? 1 : 0; };
  if (match.vlan) header.vlan = *match.vlan ^ beside();
  if (match.inner_vlan) header.inner_vlan = *match.inner_vlan ^ beside();
  if (match.dscp) header.dscp = *match.dscp ^ beside();
  if (const auto [value, mask] = match.tcp_flags; mask != 0) {
    const auto others = static_cast<uint8_t>(random() & 0x3f & ~mask);
    const auto lowest = static_cast<uint8_t>(mask & -mask);
    header.tcp_flags = value | others;
    if (beside() != 0) header.tcp_flags ^= lowest;
  }
  if (match.packet_length) {
    header.length = static_cast<uint16_t>(Draw(match.packet_length->first, match.packet_length->last, random));
    if (header.length != 0xffff) header.length = static_cast<uint16_t>(header.length + beside());
  }
  return header;
}

std::array<uint32_t, HG_WORDS> KeyOf(const Header& header) {
  std::array<uint32_t, HG_WORDS> key{};
  for (int i = 0; i < 4; ++i) {
    key[HG_WORD_SRC + i] = header.source[i];
    key[HG_WORD_DST + i] = header.destination[i];
  }
  uint32_t kind = HG_KIND_IP | (header.family == Family::kIpv4 ? HG_KIND_IPV4 : HG_KIND_IPV6);
  if (HasPorts(header.protocol)) kind |= HG_KIND_PORTS;
  key[HG_WORD_PORTS] = static_cast<uint32_t>(header.source_port) << 16 | header.destination_port;
  key[HG_WORD_PROTO] = static_cast<uint32_t>(header.protocol) << HG_PROTO_SHIFT |
                       static_cast<uint32_t>(header.dscp) << HG_DSCP_SHIFT |
                       static_cast<uint32_t>(header.tcp_flags) << HG_TCP_FLAGS_SHIFT | kind;
  key[HG_WORD_INGRESS] = header.vlan;
  key[HG_WORD_EXTRA] = static_cast<uint32_t>(header.inner_vlan) << 16 | header.length;
  return key;
}

bool Matches(const Match& match, const Header& header) {
  if (match.source && !Contains(*match.source, IpAddress{header.source, header.family})) return false;
  if (match.destination && !Contains(*match.destination, IpAddress{header.destination, header.family}))
    return false;
  if (match.protocol && *match.protocol != header.protocol) return false;
  if (match.vlan && *match.vlan != header.vlan) return false;
  if (match.inner_vlan && *match.inner_vlan != header.inner_vlan) return false;
  if (match.dscp && *match.dscp != header.dscp) return false;
  if ((header.tcp_flags & match.tcp_flags.mask) != match.tcp_flags.value) return false;
  if (match.packet_length &&
      (header.length < match.packet_length->first || header.length > match.packet_length->last))
    return false;
  const bool wants_ports = !match.source_ports.empty() || !match.destination_ports.empty();
  if (wants_ports && !HasPorts(header.protocol)) return false;
  return InRanges(match.source_ports, header.source_port) &&
         InRanges(match.destination_ports, header.destination_port);
}

const Rule* LinearSearch(const std::vector<Rule>& rules, const Header& header) {
  for (const Rule& rule : rules) {
    if (Matches(rule.match, header)) return &rule;
  }
  return nullptr;
}

}  // namespace headgate::testing
