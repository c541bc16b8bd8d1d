// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/plain_stub.h"

#include <grpcpp/create_channel.h>

namespace headgate::testing {

std::unique_ptr<v1::Gateway::Stub> PlainStub(const std::string& address) {
  return v1::Gateway::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

}  // namespace headgate::testing
