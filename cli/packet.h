// SPDX-License-Identifier: Apache-2.0
//
// Frames as text: a line for each header, a summary on one line, a hex dump. For whatever bytes: what does not
// parse is said to be cut or unknown.
#pragma once

#include <absl/strings/string_view.h>

#include <string>
#include <vector>

namespace headgate::cli {

struct DecodedFrame {
  // "ipv4 10.0.0.1 > 10.1.1.1 udp ttl 64 length 32".
  std::vector<std::string> headers;
  // "udp 10.0.0.1:1234 > 10.1.1.1:53 vlan 5 ttl 64", the form Trace takes packets in where there is one.
  std::string summary;
};

DecodedFrame DecodeFrame(absl::string_view frame);

// Lines of 16 bytes with their offset and printable characters, each after `indent`.
std::string HexDump(absl::string_view bytes, absl::string_view indent);

}  // namespace headgate::cli
