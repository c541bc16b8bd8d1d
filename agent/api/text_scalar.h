// SPDX-License-Identifier: Apache-2.0
//
// One scalar of a YAML document into one field of a message.
#pragma once

#include <absl/status/status.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>

#include "agent/api/yaml_document.h"

namespace headgate {

// Whether the field is written as a scalar: everything but messages, and of these Duration and Timestamp.
bool IsScalarField(const google::protobuf::FieldDescriptor& field);

// Sets the field, or adds an element when it is repeated. The error says what is wrong with the text and what
// would be right.
absl::Status SetScalar(YamlNode node, google::protobuf::Message& message,
                       const google::protobuf::FieldDescriptor& field);

// A value as errors show it: in quotes, cut when it is long.
std::string Shown(absl::string_view text);

}  // namespace headgate
