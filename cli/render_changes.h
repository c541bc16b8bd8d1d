// SPDX-License-Identifier: Apache-2.0
//
// What a change does, in lines for people.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// "3 created, 1 updated, 2 deleted"; "no changes".
std::string ChangeSummary(const v1::ApplyResponse& response);

// "+ rule to-app".
std::string DifferenceLine(const v1::Difference& difference);

// The fields that differ between two versions of an object, a line each: "match.destination: 10.0.0.0/8 ->
// 10.1.0.0/16", lists by what was added and removed.
std::vector<std::string> FieldChanges(const google::protobuf::Message& before,
                                      const google::protobuf::Message& after);

}  // namespace headgate::cli
