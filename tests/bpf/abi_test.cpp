// SPDX-License-Identifier: Apache-2.0
//
// That clang's BPF target lays out hg_abi.h as the compiler of the agent does, by the BTF of the built object.
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/hg_abi.h"
#include "headgate_bpf.skel.h"

namespace headgate::testing {
namespace {

struct Field {
  std::string_view name;
  size_t offset;  // bytes
  size_t size;
};

struct Layout {
  std::string_view name;
  size_t size;
  std::vector<Field> fields;
};

#define FIELD(type, name) \
  { #name, offsetof(type, name), sizeof(type::name) }

const std::vector<Layout>& Layouts() {
  static const std::vector<Layout> layouts = {
      {"hg_node",
       sizeof(hg_node),
       {FIELD(hg_node, base), FIELD(hg_node, rest), FIELD(hg_node, rest_prio), FIELD(hg_node, word),
        FIELD(hg_node, shift), FIELD(hg_node, bits), FIELD(hg_node, pad)}},
      {"hg_node_page", sizeof(hg_node_page), {FIELD(hg_node_page, node)}},
      {"hg_slot", sizeof(hg_slot), {FIELD(hg_slot, prio), FIELD(hg_slot, ref)}},
      {"hg_slot_page", sizeof(hg_slot_page), {FIELD(hg_slot_page, slot)}},
      {"hg_rule",
       sizeof(hg_rule),
       {FIELD(hg_rule, src), FIELD(hg_rule, dst), FIELD(hg_rule, sport_min), FIELD(hg_rule, sport_max),
        FIELD(hg_rule, dport_min), FIELD(hg_rule, dport_max), FIELD(hg_rule, prio), FIELD(hg_rule, id),
        FIELD(hg_rule, action), FIELD(hg_rule, src_shift), FIELD(hg_rule, dst_shift), FIELD(hg_rule, protocol),
        FIELD(hg_rule, flags)}},
      {"hg_rule_page", sizeof(hg_rule_page), {FIELD(hg_rule_page, rule)}},
      {"hg_match",
       sizeof(hg_match),
       {FIELD(hg_match, src), FIELD(hg_match, src_mask), FIELD(hg_match, dst_low), FIELD(hg_match, dst_low_mask),
        FIELD(hg_match, proto), FIELD(hg_match, proto_mask), FIELD(hg_match, port), FIELD(hg_match, vlan),
        FIELD(hg_match, inner_vlan), FIELD(hg_match, length_min), FIELD(hg_match, length_max),
        FIELD(hg_match, src_set), FIELD(hg_match, dst_set), FIELD(hg_match, pad)}},
      {"hg_match_page", sizeof(hg_match_page), {FIELD(hg_match_page, match)}},
      {"hg_prefix", sizeof(hg_prefix), {FIELD(hg_prefix, addr), FIELD(hg_prefix, set), FIELD(hg_prefix, length)}},
      {"hg_prefix_page", sizeof(hg_prefix_page), {FIELD(hg_prefix_page, prefix)}},
      {"hg_action",
       sizeof(hg_action),
       {FIELD(hg_action, verdict), FIELD(hg_action, flags), FIELD(hg_action, port), FIELD(hg_action, object),
        FIELD(hg_action, sample), FIELD(hg_action, counter), FIELD(hg_action, dmac), FIELD(hg_action, smac),
        FIELD(hg_action, pad), FIELD(hg_action, police_cost), FIELD(hg_action, police_depth)}},
      {"hg_next_hop",
       sizeof(hg_next_hop),
       {FIELD(hg_next_hop, port), FIELD(hg_next_hop, vlan), FIELD(hg_next_hop, dmac), FIELD(hg_next_hop, smac),
        FIELD(hg_next_hop, vlan_mode), FIELD(hg_next_hop, decrement_ttl), FIELD(hg_next_hop, pad)}},
      {"hg_next_hop_page", sizeof(hg_next_hop_page), {FIELD(hg_next_hop_page, hop)}},
      {"hg_target",
       sizeof(hg_target),
       {FIELD(hg_target, fallback), FIELD(hg_target, shed_at), FIELD(hg_target, pad)}},
      {"hg_target_page", sizeof(hg_target_page), {FIELD(hg_target_page, target)}},
      {"hg_steer_meta",
       sizeof(hg_steer_meta),
       {FIELD(hg_steer_meta, rule_id), FIELD(hg_steer_meta, target), FIELD(hg_steer_meta, port),
        FIELD(hg_steer_meta, l3), FIELD(hg_steer_meta, l4), FIELD(hg_steer_meta, kind)}},
      {"hg_queue",
       sizeof(hg_queue),
       {FIELD(hg_queue, beat), FIELD(hg_queue, looked), FIELD(hg_queue, given), FIELD(hg_queue, flags)}},
      {"hg_target_state", sizeof(hg_target_state), {FIELD(hg_target_state, absent), FIELD(hg_target_state, pad)}},
      {"hg_root",
       sizeof(hg_root),
       {FIELD(hg_root, generation), FIELD(hg_root, rule_tree), FIELD(hg_root, set_tree4),
        FIELD(hg_root, set_tree6), FIELD(hg_root, src_set_slots), FIELD(hg_root, dst_set_slots),
        FIELD(hg_root, default_verdict), FIELD(hg_root, flags), FIELD(hg_root, target_page),
        FIELD(hg_root, next_hop_page), FIELD(hg_root, mroute_tree), FIELD(hg_root, mroute_page),
        FIELD(hg_root, leg_page), FIELD(hg_root, extent)}},
      {"hg_active",
       sizeof(hg_active),
       {FIELD(hg_active, root), FIELD(hg_active, serial), FIELD(hg_active, abi), FIELD(hg_active, pad)}},
      {"hg_port",
       sizeof(hg_port),
       {FIELD(hg_port, ifindex), FIELD(hg_port, mtu), FIELD(hg_port, mac), FIELD(hg_port, flags),
        FIELD(hg_port, pad)}},
      {"hg_port_address", sizeof(hg_port_address), {FIELD(hg_port_address, ip4), FIELD(hg_port_address, ip6)}},
      {"hg_ifindex", sizeof(hg_ifindex), {FIELD(hg_ifindex, ifindex), FIELD(hg_ifindex, port)}},
      {"hg_count", sizeof(hg_count), {FIELD(hg_count, packets), FIELD(hg_count, bytes)}},
      {"hg_rule_count",
       sizeof(hg_rule_count),
       {FIELD(hg_rule_count, packets), FIELD(hg_rule_count, bytes), FIELD(hg_rule_count, limited)}},
      {"hg_rule_count_page", sizeof(hg_rule_count_page), {FIELD(hg_rule_count_page, rule)}},
      {"hg_recent_page", sizeof(hg_recent_page), {FIELD(hg_recent_page, rule)}},
      {"hg_egress",
       sizeof(hg_egress),
       {FIELD(hg_egress, sent), FIELD(hg_egress, dropped), FIELD(hg_egress, refused)}},
      {"hg_egress_owner",
       sizeof(hg_egress_owner),
       {FIELD(hg_egress_owner, incarnation), FIELD(hg_egress_owner, devmap_id), FIELD(hg_egress_owner, next),
        FIELD(hg_egress_owner, pad)}},
      {"hg_sample",
       sizeof(hg_sample),
       {FIELD(hg_sample, time), FIELD(hg_sample, rule_id), FIELD(hg_sample, ifindex), FIELD(hg_sample, port),
        FIELD(hg_sample, reason), FIELD(hg_sample, length), FIELD(hg_sample, captured), FIELD(hg_sample, data)}},
      {"hg_trace",
       sizeof(hg_trace),
       {FIELD(hg_trace, generation), FIELD(hg_trace, rule_id), FIELD(hg_trace, action), FIELD(hg_trace, reason),
        FIELD(hg_trace, egress_port), FIELD(hg_trace, stages), FIELD(hg_trace, steps),
        FIELD(hg_trace, ingress_port), FIELD(hg_trace, mroute), FIELD(hg_trace, key)}},
      {"hg_mroute",
       sizeof(hg_mroute),
       {FIELD(hg_mroute, fanout), FIELD(hg_mroute, ports), FIELD(hg_mroute, pad), FIELD(hg_mroute, feed),
        FIELD(hg_mroute, port), FIELD(hg_mroute, leg_of_port)}},
      {"hg_feed_key",
       sizeof(hg_feed_key),
       {FIELD(hg_feed_key, feed), FIELD(hg_feed_key, offset), FIELD(hg_feed_key, window),
        FIELD(hg_feed_key, width), FIELD(hg_feed_key, flags)}},
      {"hg_feed",
       sizeof(hg_feed),
       {FIELD(hg_feed, lock), FIELD(hg_feed, begun), FIELD(hg_feed, next), FIELD(hg_feed, time),
        FIELD(hg_feed, packets), FIELD(hg_feed, duplicates), FIELD(hg_feed, missing), FIELD(hg_feed, late),
        FIELD(hg_feed, stale), FIELD(hg_feed, restarts), FIELD(hg_feed, unread), FIELD(hg_feed, seen)}},
      {"hg_content",
       sizeof(hg_content),
       {FIELD(hg_content, hash), FIELD(hg_content, length), FIELD(hg_content, feed)}},
      {"hg_mroute_page", sizeof(hg_mroute_page), {FIELD(hg_mroute_page, route)}},
      {"hg_leg",
       sizeof(hg_leg),
       {FIELD(hg_leg, src), FIELD(hg_leg, dst), FIELD(hg_leg, sport), FIELD(hg_leg, dport), FIELD(hg_leg, port),
        FIELD(hg_leg, flags), FIELD(hg_leg, vlan), FIELD(hg_leg, vlan_mode), FIELD(hg_leg, ttl),
        FIELD(hg_leg, ttl_threshold), FIELD(hg_leg, dscp), FIELD(hg_leg, dmac), FIELD(hg_leg, pad),
        FIELD(hg_leg, police_cost), FIELD(hg_leg, police_depth)}},
      {"hg_leg_page", sizeof(hg_leg_page), {FIELD(hg_leg_page, leg)}},
      {"hg_leg_meta",
       sizeof(hg_leg_meta),
       {FIELD(hg_leg_meta, stamp), FIELD(hg_leg_meta, route), FIELD(hg_leg_meta, l3), FIELD(hg_leg_meta, l4),
        FIELD(hg_leg_meta, kind), FIELD(hg_leg_meta, protocol)}},
      {"hg_bundled_leg",
       sizeof(hg_bundled_leg),
       {FIELD(hg_bundled_leg, leg), FIELD(hg_bundled_leg, id), FIELD(hg_bundled_leg, pad)}},
      {"hg_bundle", sizeof(hg_bundle), {FIELD(hg_bundle, count), FIELD(hg_bundle, pad), FIELD(hg_bundle, leg)}},
      {"hg_bundle_meta",
       sizeof(hg_bundle_meta),
       {FIELD(hg_bundle_meta, packet), FIELD(hg_bundle_meta, bundle), FIELD(hg_bundle_meta, l3),
        FIELD(hg_bundle_meta, l4), FIELD(hg_bundle_meta, kind), FIELD(hg_bundle_meta, protocol)}},
      {"hg_leg_count",
       sizeof(hg_leg_count),
       {FIELD(hg_leg_count, offered), FIELD(hg_leg_count, packets), FIELD(hg_leg_count, bytes),
        FIELD(hg_leg_count, ttl), FIELD(hg_leg_count, limited), FIELD(hg_leg_count, no_source),
        FIELD(hg_leg_count, malformed), FIELD(hg_leg_count, no_listener), FIELD(hg_leg_count, no_neighbour),
        FIELD(hg_leg_count, too_big), FIELD(hg_leg_count, tx_full), FIELD(hg_leg_count, fragments)}},
      {"hg_mroute_last", sizeof(hg_mroute_last), {FIELD(hg_mroute_last, time)}},
      {"hg_fanout", sizeof(hg_fanout), {FIELD(hg_fanout, ports)}},
      {"hg_fanout_state", sizeof(hg_fanout_state), {FIELD(hg_fanout_state, mtu), FIELD(hg_fanout_state, pad)}},
  };
  return layouts;
}

// Structs of the object that user space never sees, and those that the kernel's own headers lay out.
const std::set<std::string_view>& NotShared() {
  static const std::set<std::string_view> names = {"hg_flow", "hg_flow_set", "hg_flows", "hg_copy", "turn",
                                                   "leg_bulk", "bpf_devmap_val", "payload",
                                                   // Random bytes, whatever they are called.
                                                   "content_keys"};
  return names;
}

class Abi : public ::testing::Test {
 protected:
  void SetUp() override {
    skeleton_ = headgate_bpf__open();
    ASSERT_NE(skeleton_, nullptr);
    btf_ = bpf_object__btf(skeleton_->obj);
    ASSERT_NE(btf_, nullptr);
  }
  void TearDown() override { headgate_bpf__destroy(skeleton_); }

  std::string_view NameAt(uint32_t offset) const { return btf__name_by_offset(btf_, offset); }

  void ExpectSame(const Layout& layout) {
    SCOPED_TRACE(layout.name);
    const int id = btf__find_by_name_kind(btf_, std::string(layout.name).c_str(), BTF_KIND_STRUCT);
    ASSERT_GT(id, 0) << "not in the object";
    const btf_type* type = btf__type_by_id(btf_, static_cast<uint32_t>(id));
    EXPECT_EQ(type->size, layout.size);
    ASSERT_EQ(btf_vlen(type), layout.fields.size());
    for (uint32_t i = 0; i < layout.fields.size(); ++i) {
      const btf_member& member = btf_members(type)[i];
      const Field& field = layout.fields[i];
      EXPECT_EQ(NameAt(member.name_off), field.name);
      EXPECT_EQ(btf_member_bit_offset(type, i), field.offset * 8) << field.name;
      EXPECT_EQ(btf_member_bitfield_size(type, i), 0u) << field.name;
      EXPECT_EQ(btf__resolve_size(btf_, member.type), static_cast<int64_t>(field.size)) << field.name;
    }
  }

  headgate_bpf* skeleton_ = nullptr;
  const btf* btf_ = nullptr;
};

TEST_F(Abi, StructsAreLaidOutAlike) {
  for (const Layout& layout : Layouts()) ExpectSame(layout);
}

// What maps hold is what crosses: a struct that is added to a map is to be added above.
TEST_F(Abi, EveryValueOfAMapIsChecked) {
  std::set<std::string_view> checked;
  for (const Layout& layout : Layouts()) checked.insert(layout.name);
  size_t values = 0;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    if (bpf_map__is_internal(map) || bpf_map__btf_value_type_id(map) == 0) continue;
    const int id = btf__resolve_type(btf_, bpf_map__btf_value_type_id(map));
    const btf_type* type = btf__type_by_id(btf_, static_cast<uint32_t>(id));
    if (!btf_is_struct(type)) continue;
    const std::string_view name = NameAt(type->name_off);
    ++values;
    EXPECT_TRUE(checked.contains(name) || NotShared().contains(name)) << bpf_map__name(map) << ": " << name;
  }
  EXPECT_GE(values, 15u);
}

}  // namespace
}  // namespace headgate::testing
