// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Classify: walks the bit-selection trees of the packet's generation (ADR 2). Owns the tables that hold
 * them: nodes, items, rules and prefixes. Works on values only.
 *
 * A walk descends from a tree's root: a node takes a window of key bits as the index of the child, and
 * remembers the subtree of entries that leave some of those bits open. It ends when no remembered subtree
 * can hold anything of higher priority than the best match so far.
 */
#include "classify.h"
#include "flow.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* sized by the agent before loading, as all tables of this file */
	__type(key, __u32);
	__type(value, struct hg_node_page);
} hg_nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_item_page);
} hg_items SEC(".maps");

struct hg_rules_map hg_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_prefix_page);
} hg_prefixes SEC(".maps");

/* Steps taken in line; the few walks that are longer go on in bpf_loop, at a call for each step. */
#define INLINE_STEPS 48

/* bpf_loop wants a bound: a chain of so many leaves would hold eight million entries. */
#define MAX_STEPS (1 << 20)

#define LOOKUP_FAILED (~0ULL)

enum walk_result {
	WALK_ON = 0,
	WALK_END = 1,
	WALK_FAILED = 2,
};

/* A walk's subtrees to come back to. */
struct pending {
	__u32 nodes[HG_TREE_STACK];
	__u32 pad;
	/* How many there are. Volatile and off the 8-byte grid, where the verifier does not track values: it
	 * would tell every depth at every step apart, and run out of patience. */
	volatile __u32 count;
};
HG_STATIC_ASSERT(__builtin_offsetof(struct pending, count) % 8 == 4, "see count");

struct rule_walk {
	struct hg_pkt *pkt;
	const struct hg_sets *sets;
	struct pending pending;
	__u32 node;
	__u32 best; /* priority of the best match so far, 0: none */
	__u32 steps;
	bool failed;
};

struct prefix_walk {
	struct hg_pkt *pkt;
	struct hg_sets *sets;
	struct pending pending;
	__u32 word; /* of the address, in the key */
	__u32 node;
	__u32 steps;
	bool failed;
};

static __always_inline const struct hg_node *get_node(__u32 index)
{
	__u32 number = index / HG_NODES_PER_PAGE;
	struct hg_node_page *page = bpf_map_lookup_elem(&hg_nodes, &number);

	return page ? &page->node[index % HG_NODES_PER_PAGE] : NULL;
}

/* The agent places a leaf's items within one page. */
static __always_inline const struct hg_item_page *get_items(__u32 index)
{
	__u32 number = index / HG_ITEMS_PER_PAGE;

	return bpf_map_lookup_elem(&hg_items, &number);
}

static __always_inline const struct hg_prefix *get_prefix(__u32 index)
{
	__u32 number = index / HG_PREFIXES_PER_PAGE;
	struct hg_prefix_page *page = bpf_map_lookup_elem(&hg_prefixes, &number);

	return page ? &page->prefix[index % HG_PREFIXES_PER_PAGE] : NULL;
}

static __always_inline int next_pending(struct pending *pending, __u32 *node)
{
	__u32 top = pending->count - 1;

	if (top >= HG_TREE_STACK)
		return WALK_END;
	*node = pending->nodes[top];
	pending->count = top;
	return WALK_ON;
}

static __always_inline int descend(struct pending *pending, const struct hg_node *from, __u32 key,
				   __u32 *node)
{
	__u32 top;

	if (from->rest) {
		top = pending->count;
		if (top >= HG_TREE_STACK)
			return WALK_FAILED;
		pending->nodes[top] = from->rest;
		pending->count = top + 1;
	}
	*node = from->base + (key >> (from->shift & 31) & ((1U << (from->bits & 31)) - 1));
	return WALK_ON;
}

static __always_inline bool in_set(const __u64 *sets, __u32 set)
{
	return sets[set / 64 & (HG_SET_WORDS - 1)] >> (set & 63) & 1;
}

static __always_inline bool matches_scope(const struct hg_rule *rule, struct hg_pkt *pkt,
					  const struct hg_sets *sets)
{
	__u32 ingress = pkt->key[HG_WORD_INGRESS];
	__u32 extra = pkt->key[HG_WORD_EXTRA];

	if (rule->port && rule->port != ingress >> 16)
		return false;
	if (rule->vlan != HG_VLAN_ANY && rule->vlan != (ingress & 0xffff))
		return false;
	if (rule->inner_vlan != HG_VLAN_ANY && rule->inner_vlan != extra >> 16)
		return false;
	if (rule->length_min != 0 || rule->length_max != 0xffff) {
		pkt->flags |= HG_PKT_BY_LENGTH;
		if ((extra & 0xffff) < rule->length_min || (extra & 0xffff) > rule->length_max)
			return false;
	}
	if (rule->src_set && !in_set(sets->src, rule->src_set - 1))
		return false;
	return !rule->dst_set || in_set(sets->dst, rule->dst_set - 1);
}

static __always_inline bool matches_ipv6(const struct hg_rule *rule, const __u32 *key)
{
	__u32 diff = 0;
	int i;

	for (i = 0; i < 3; i++) {
		diff |= (key[HG_WORD_SRC + 1 + i] ^ rule->src_low[i]) & rule->src_low_mask[i];
		diff |= (key[HG_WORD_DST + 1 + i] ^ rule->dst_low[i]) & rule->dst_low_mask[i];
	}
	return !diff;
}

static __always_inline bool matches(const struct hg_rule *rule, struct hg_pkt *pkt,
				    const struct hg_sets *sets)
{
	const __u32 *key = pkt->key;
	__u32 sport = key[HG_WORD_PORTS] >> 16, dport = key[HG_WORD_PORTS] & 0xffff;

	if (((key[HG_WORD_SRC] ^ rule->src) & rule->src_mask) |
	    ((key[HG_WORD_DST] ^ rule->dst) & rule->dst_mask) |
	    ((key[HG_WORD_PROTO] ^ rule->proto) & rule->proto_mask))
		return false;
	if (sport < rule->sport_min || sport > rule->sport_max || dport < rule->dport_min ||
	    dport > rule->dport_max)
		return false;
	if ((rule->flags & HG_RULE_IPV6) && !matches_ipv6(rule, key))
		return false;
	return !(rule->flags & HG_RULE_SCOPE) || matches_scope(rule, pkt, sets);
}

/* Takes the leaf's first matching rule above priority `best`, whose items are in falling order of it. Returns
 * the priority to beat from now on, or LOOKUP_FAILED. A stage of its own, verified once for all leaves. */
HG_STAGE __u64 hg_scan_rules(struct hg_pkt *pkt, const struct hg_sets *sets, __u32 base, __u32 count,
			     __u32 best)
{
	const struct hg_item_page *items = get_items(base);
	const struct hg_rule *rule;
	const struct hg_item *item;
	__u32 i, index;

	if (!items || !pkt || !sets)
		return LOOKUP_FAILED;
	for (i = 0; i < HG_LEAF_ITEMS && i < count; i++) {
		item = &items->item[(base + i) % HG_ITEMS_PER_PAGE];
		if (item->prio <= best)
			break;
		index = item->entry;
		rule = bpf_map_lookup_elem(&hg_rules, &index);
		if (!rule)
			return LOOKUP_FAILED;
		if (matches(rule, pkt, sets)) {
			hg_take_rule(pkt, index, rule);
			return rule->prio;
		}
	}
	return best;
}

static __always_inline int rule_step(struct rule_walk *walk)
{
	const struct hg_node *node = get_node(walk->node);
	struct hg_pkt *pkt = walk->pkt;
	__u64 best;

	walk->steps++;
	if (!node)
		return WALK_FAILED;
	if (node->prio > walk->best) {
		if (node->bits) {
			if (node->word == HG_WORD_EXTRA)
				pkt->flags |= HG_PKT_BY_LENGTH;
			return descend(&walk->pending, node, pkt->key[node->word & (HG_WORDS - 1)],
				       &walk->node);
		}
		best = hg_scan_rules(pkt, walk->sets, node->base, node->count, walk->best);
		if (best == LOOKUP_FAILED)
			return WALK_FAILED;
		walk->best = best;
		if (node->rest) {
			walk->node = node->rest;
			return WALK_ON;
		}
	}
	return next_pending(&walk->pending, &walk->node);
}

static long rule_loop(__u32 step __attribute__((unused)), struct rule_walk *walk)
{
	int result = rule_step(walk);

	walk->failed = result == WALK_FAILED;
	return result != WALK_ON;
}

static __always_inline bool prefix_covers(const struct hg_prefix *prefix, const __u32 *address)
{
	__u32 i, left = prefix->length, mask;

	for (i = 0; i < 4; i++) {
		mask = left >= 32 ? 0xffffffff : ~(0xffffffffU >> left);
		if ((address[i] ^ prefix->addr[i]) & mask)
			return false;
		if (left <= 32)
			return true;
		left -= 32;
	}
	return true;
}

/* Adds the sets of the leaf's prefixes that cover the address at key word `word`. A stage of its own,
 * verified once for all leaves. */
HG_STAGE int hg_scan_prefixes(const struct hg_pkt *pkt, struct hg_sets *sets, __u32 base, __u32 count,
			      __u32 word)
{
	const struct hg_item_page *items = get_items(base);
	const struct hg_prefix *prefix;
	__u32 i, index, set;
	__u64 *bits;

	if (!items || !pkt || !sets)
		return false;
	bits = word == HG_WORD_SRC ? sets->src : sets->dst;
	for (i = 0; i < HG_LEAF_ITEMS && i < count; i++) {
		index = items->item[(base + i) % HG_ITEMS_PER_PAGE].entry;
		prefix = get_prefix(index);
		if (!prefix)
			return false;
		if (prefix_covers(prefix, &pkt->key[word & HG_WORD_DST])) {
			set = prefix->set;
			bits[set / 64 & (HG_SET_WORDS - 1)] |= 1ULL << (set & 63);
		}
	}
	return true;
}

static __always_inline int prefix_step(struct prefix_walk *walk)
{
	const struct hg_node *node = get_node(walk->node);
	__u32 key;

	walk->steps++;
	if (!node)
		return WALK_FAILED;
	if (node->prio) {
		if (node->bits) {
			key = walk->pkt->key[(walk->word & HG_WORD_DST) + (node->word & 3)];
			return descend(&walk->pending, node, key, &walk->node);
		}
		if (!hg_scan_prefixes(walk->pkt, walk->sets, node->base, node->count, walk->word))
			return WALK_FAILED;
		if (node->rest) {
			walk->node = node->rest;
			return WALK_ON;
		}
	}
	return next_pending(&walk->pending, &walk->node);
}

static long prefix_loop(__u32 step __attribute__((unused)), struct prefix_walk *walk)
{
	int result = prefix_step(walk);

	walk->failed = result == WALK_FAILED;
	return result != WALK_ON;
}

/* Collects the sets that hold the address at key word `word`. */
static __always_inline bool find_sets(struct hg_pkt *pkt, struct hg_sets *sets, __u32 tree, __u32 word)
{
	struct prefix_walk walk = {.pkt = pkt, .sets = sets, .word = word, .node = tree};

	if (!tree)
		return true;
	bpf_loop(MAX_STEPS, prefix_loop, &walk, 0);
	pkt->steps += walk.steps;
	return !walk.failed;
}

HG_STAGE int hg_find_sets(const struct hg_root *root, struct hg_pkt *pkt, struct hg_sets *sets)
{
	__u32 tree = 0;

	if (!root || !pkt || !sets)
		return false;
	if (hg_kind(pkt) & HG_KIND_IPV4)
		tree = root->set_tree4;
	else if (hg_kind(pkt) & HG_KIND_IPV6)
		tree = root->set_tree6;
	if ((root->flags & HG_ROOT_SRC_SETS) && !find_sets(pkt, sets, tree, HG_WORD_SRC))
		return false;
	return !(root->flags & HG_ROOT_DST_SETS) || find_sets(pkt, sets, tree, HG_WORD_DST);
}

static __always_inline bool walk_rules(struct rule_walk *walk)
{
	int i, result;

	for (i = 0; i < INLINE_STEPS; i++) {
		result = rule_step(walk);
		if (result != WALK_ON)
			return result == WALK_END;
	}
	bpf_loop(MAX_STEPS, rule_loop, walk, 0);
	return !walk->failed;
}

HG_STAGE int hg_classify(const struct hg_root *root, struct hg_pkt *pkt, const struct hg_sets *sets)
{
	struct rule_walk walk = {.pkt = pkt, .sets = sets};

	if (!root || !pkt || !sets)
		return false;
	pkt->stages |= HG_STAGE_CLASSIFY;
	walk.node = root->rule_tree;
	if (walk.node && !walk_rules(&walk))
		return false;
	pkt->steps += walk.steps;
	if (!(pkt->flags & HG_PKT_BY_LENGTH) && !hg_is_traced(pkt))
		hg_keep_flow(pkt);
	return true;
}
