// SPDX-License-Identifier: Apache-2.0
//
// The example that says it has every field has.
#include <absl/strings/str_cat.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "headgate/v1/config.pb.h"

namespace headgate::testing {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Of the message and of all below it.
void Collect(const Descriptor& type, std::set<const Descriptor*>& seen, std::set<std::string>& fields) {
  if (!seen.insert(&type).second) return;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    fields.insert(field.name());
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) Collect(*field.message_type(), seen, fields);
  }
}

TEST(Example, HasEveryField) {
  std::ifstream file(HG_EXAMPLES "/headgate.yaml");
  std::stringstream content;
  content << file.rdbuf();
  std::set<const Descriptor*> seen;
  std::set<std::string> fields;
  Collect(*v1::GatewayConfig::descriptor(), seen, fields);
  EXPECT_GT(fields.size(), 60U);
  for (const std::string& field : fields) {
    // In comments, too: some exclude each other.
    EXPECT_TRUE(std::regex_search(content.str(), std::regex(absl::StrCat("[\\s{]", field, ":")))) << field;
  }
}

}  // namespace
}  // namespace headgate::testing
