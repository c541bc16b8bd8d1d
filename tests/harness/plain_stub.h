// SPDX-License-Identifier: Apache-2.0
//
// For tests of the API itself. Apart from the harness because gRPC's headers take long to compile.
#pragma once

#include <memory>
#include <string>

#include "headgate/v1/gateway.grpc.pb.h"

namespace headgate::testing {

// A connection as a program without special settings would open it.
std::unique_ptr<v1::Gateway::Stub> PlainStub(const std::string& address);

}  // namespace headgate::testing
