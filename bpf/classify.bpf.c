// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Classify: walks the bit-selection trees of the packet's generation (ADR 2). Owns the tables that hold
 * them: nodes, slots, rules with what more they match, and prefixes. Works on values only.
 *
 * A walk descends from a tree's root: a node takes a window of key bits as the index of the child, and the
 * walk remembers the subtree of entries that leave some of those bits open. It ends when no remembered
 * subtree can hold anything of higher priority than the best match so far.
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
	__type(value, struct hg_slot_page);
} hg_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_rule_page);
} hg_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_match_page);
} hg_matches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hg_prefix_page);
} hg_prefixes SEC(".maps");

/* Steps taken in line; the few walks that are longer go on in bpf_loop, at a call for each step. */
#define INLINE_STEPS 48

/* bpf_loop wants a bound: a chain, of a node and a leaf for every eight entries, could hold eight million. */
#define MAX_STEPS (1 << 21)

enum walk_result {
	WALK_ON = 0,
	WALK_END = 1,
	WALK_FAILED = 2,
};

#define FAILED_PLACE (~0U)

/* Where a walk is. Handed from step to step by value, so that it stays in registers. */
struct place {
	__u32 at;   /* a subtree, 0: take the next that is pending; FAILED_PLACE: a table entry is missing */
	__u32 best; /* priority of the best match so far, 0: none */
};

/* The subtrees to come back to. */
struct pending {
	__u64 subtrees[HG_TREE_STACK]; /* subtree << 32 | its highest priority */
	__u32 pad;
	/* How many. Volatile and off the 8-byte grid, where the verifier does not track values: it would tell
	 * every depth at every step apart, and run out of patience. */
	volatile __u32 count;
};
HG_STATIC_ASSERT(__builtin_offsetof(struct pending, count) % 8 == 4, "see count");

/* For walks that go on in bpf_loop. */
struct rule_walk {
	struct pending pending;
	struct place place;
	/* Volatile, so that there is no other copy of them on the stack. */
	struct hg_pkt *volatile pkt;
	const struct hg_sets *volatile sets;
};

struct prefix_walk {
	struct pending pending;
	struct place place;
	struct hg_pkt *pkt;
	struct hg_sets *sets;
	__u32 word; /* of the address, in the key */
	__u32 steps;
	bool failed;
};

static __always_inline const struct hg_node *get_node(__u32 index)
{
	__u32 number = index / HG_NODES_PER_PAGE;
	struct hg_node_page *page = bpf_map_lookup_elem(&hg_nodes, &number);

	return page ? &page->node[index % HG_NODES_PER_PAGE] : NULL;
}

static __always_inline const struct hg_slot *get_slot(__u32 index)
{
	__u32 number = index / HG_SLOTS_PER_PAGE;
	struct hg_slot_page *page = bpf_map_lookup_elem(&hg_slots, &number);

	return page ? &page->slot[index % HG_SLOTS_PER_PAGE] : NULL;
}

static __always_inline const struct hg_match *get_match(__u32 index)
{
	__u32 number = index / HG_MATCHES_PER_PAGE;
	struct hg_match_page *page = bpf_map_lookup_elem(&hg_matches, &number);

	return page ? &page->match[index % HG_MATCHES_PER_PAGE] : NULL;
}

static __always_inline __u32 ref_count(__u32 ref)
{
	return ref & HG_REF_COUNT_MASK;
}

static __always_inline int next_pending(struct pending *pending, struct place *place)
{
	__u32 top = pending->count - 1;
	__u64 subtree;

	if (top >= HG_TREE_STACK)
		return WALK_END;
	pending->count = top;
	subtree = pending->subtrees[top];
	place->at = (__u32)subtree > place->best ? subtree >> 32 : 0;
	return WALK_ON;
}

/* Goes on to the child that the key selects; `key` is the word that the node looks at. */
static __always_inline int descend(struct pending *pending, struct place *place, const struct hg_node *node,
				   __u32 key)
{
	const struct hg_slot *slot;
	__u32 top;

	if (node->rest_prio > place->best) {
		top = pending->count;
		if (top >= HG_TREE_STACK)
			return WALK_FAILED;
		pending->subtrees[top] = (__u64)node->rest << 32 | node->rest_prio;
		pending->count = top + 1;
	}
	slot = get_slot(node->base + (key >> (node->shift & 31) & ((1U << (node->bits & 31)) - 1)));
	if (!slot)
		return WALK_FAILED;
	place->at = slot->prio > place->best ? slot->ref : 0;
	return WALK_ON;
}

static __always_inline bool in_set(const __u64 *sets, __u32 set)
{
	return sets[set / 64 & (HG_SET_WORDS - 1)] >> (set & 63) & 1;
}

static __always_inline bool matches_addresses(const struct hg_match *match, const __u32 *key)
{
	__u32 diff = (key[HG_WORD_SRC] ^ match->src[0]) & match->src_mask[0];
	int i;

	for (i = 0; i < 3; i++) {
		diff |= (key[HG_WORD_SRC + 1 + i] ^ match->src[1 + i]) & match->src_mask[1 + i];
		diff |= (key[HG_WORD_DST + 1 + i] ^ match->dst_low[i]) & match->dst_low_mask[i];
	}
	return !diff;
}

/* What hg_rule has no room for. */
static __always_inline bool matches_rest(const struct hg_match *match, struct hg_pkt *pkt,
					 const struct hg_sets *sets)
{
	const __u32 *key = pkt->key;
	__u32 ingress = key[HG_WORD_INGRESS], extra = key[HG_WORD_EXTRA];

	if (!matches_addresses(match, key) || ((key[HG_WORD_PROTO] ^ match->proto) & match->proto_mask))
		return false;
	if (match->port && match->port != ingress >> 16)
		return false;
	if (match->vlan != HG_VLAN_ANY && match->vlan != (ingress & 0xffff))
		return false;
	if (match->inner_vlan != HG_VLAN_ANY && match->inner_vlan != extra >> 16)
		return false;
	if (match->length_min != 0 || match->length_max != 0xffff) {
		pkt->flags |= HG_PKT_BY_LENGTH;
		if ((extra & 0xffff) < match->length_min || (extra & 0xffff) > match->length_max)
			return false;
	}
	if (!match->src_set && !match->dst_set)
		return true;
	if (!sets || (match->src_set && !in_set(sets->src, match->src_set - 1)))
		return false;
	return !match->dst_set || in_set(sets->dst, match->dst_set - 1);
}

/* Without a branch but the caller's: which field it is that differs, no predictor can know. */
static __always_inline bool matches(const struct hg_rule *rule, const __u32 *key)
{
	__u64 sport = key[HG_WORD_PORTS] >> 16, dport = key[HG_WORD_PORTS] & 0xffff;
	__u32 proto = key[HG_WORD_PROTO], any = (rule->flags & HG_RULE_ANY_PROTOCOL) / HG_RULE_ANY_PROTOCOL;
	__u64 differs;

	/* Borrows of what is below a range's first or above its last. */
	differs = (sport - rule->sport_min) | (rule->sport_max - sport) | (dport - rule->dport_min) |
		  (rule->dport_max - dport);
	differs >>= 63;
	differs |= (__u64)(key[HG_WORD_SRC] ^ rule->src) >> (rule->src_shift & 63);
	differs |= (__u64)(key[HG_WORD_DST] ^ rule->dst) >> (rule->dst_shift & 63);
	differs |= rule->flags & HG_RULE_KINDS & ~proto;
	differs |= (proto >> HG_PROTO_SHIFT ^ rule->protocol) & (any - 1);
	return !differs;
}

/* Takes the leaf's first matching rule above priority `best`. Returns the priority to beat from now on, or
 * HG_NO_ENTRY. A stage of its own, verified once for all leaves. */
HG_STAGE __u64 hg_scan_rules(struct hg_pkt *pkt, const struct hg_sets *sets, __u32 leaf, __u32 best)
{
	__u32 base = leaf >> HG_REF_SHIFT, count = ref_count(leaf), number = base / HG_RULES_PER_PAGE, i;
	const struct hg_rule_page *page = bpf_map_lookup_elem(&hg_rules, &number);
	const struct hg_match *match;
	const struct hg_rule *rule;

	if (!page || !pkt)
		return HG_NO_ENTRY;
	for (i = 0; i < HG_LEAF_ENTRIES && i < count; i++) {
		rule = &page->rule[(base + i) % HG_RULES_PER_PAGE];
		if (rule->prio <= best)
			break;
		if (!matches(rule, pkt->key))
			continue;
		if (rule->flags & HG_RULE_MATCH) {
			match = get_match(rule->src);
			if (!match)
				return HG_NO_ENTRY;
			if (!matches_rest(match, pkt, sets))
				continue;
		}
		hg_take_rule(pkt, rule);
		return rule->prio;
	}
	return best;
}

static __always_inline int rule_step(struct pending *pending, struct place *place, struct hg_pkt *pkt,
				     const struct hg_sets *sets)
{
	const struct hg_node *node;
	__u64 best;

	if (!place->at)
		return next_pending(pending, place);
	if (ref_count(place->at)) {
		best = hg_scan_rules(pkt, sets, place->at, place->best);
		if (best == HG_NO_ENTRY)
			return WALK_FAILED;
		place->best = best;
		return next_pending(pending, place);
	}
	node = get_node(place->at >> HG_REF_SHIFT);
	if (!node)
		return WALK_FAILED;
	if (node->word == HG_WORD_EXTRA)
		pkt->flags |= HG_PKT_BY_LENGTH;
	return descend(pending, place, node, pkt->key[node->word & (HG_WORDS - 1)]);
}

static long rule_loop(__u32 step __attribute__((unused)), struct rule_walk *walk)
{
	int result = rule_step(&walk->pending, &walk->place, walk->pkt, walk->sets);

	walk->pkt->steps++;
	if (result == WALK_FAILED)
		walk->place.at = FAILED_PLACE;
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
HG_STAGE int hg_scan_prefixes(const struct hg_pkt *pkt, struct hg_sets *sets, __u32 leaf, __u32 word)
{
	__u32 base = leaf >> HG_REF_SHIFT, count = ref_count(leaf), number = base / HG_PREFIXES_PER_PAGE, i;
	const struct hg_prefix_page *page = bpf_map_lookup_elem(&hg_prefixes, &number);
	const struct hg_prefix *prefix;
	__u64 *bits;
	__u32 set;

	if (!page || !pkt || !sets)
		return false;
	bits = word == HG_WORD_SRC ? sets->src : sets->dst;
	for (i = 0; i < HG_LEAF_ENTRIES && i < count; i++) {
		prefix = &page->prefix[(base + i) % HG_PREFIXES_PER_PAGE];
		if (prefix_covers(prefix, &pkt->key[word & HG_WORD_DST])) {
			set = prefix->set;
			bits[set / 64 & (HG_SET_WORDS - 1)] |= 1ULL << (set & 63);
		}
	}
	return true;
}

static __always_inline int prefix_step(struct prefix_walk *walk)
{
	struct place *place = &walk->place;
	const struct hg_node *node;

	if (!place->at)
		return next_pending(&walk->pending, place);
	if (ref_count(place->at)) {
		if (!hg_scan_prefixes(walk->pkt, walk->sets, place->at, walk->word))
			return WALK_FAILED;
		return next_pending(&walk->pending, place);
	}
	node = get_node(place->at >> HG_REF_SHIFT);
	if (!node)
		return WALK_FAILED;
	return descend(&walk->pending, place, node,
		       walk->pkt->key[(walk->word & HG_WORD_DST) + (node->word & 3)]);
}

static long prefix_loop(__u32 step __attribute__((unused)), struct prefix_walk *walk)
{
	int result = prefix_step(walk);

	walk->steps++;
	walk->failed = result != WALK_END;
	return result != WALK_ON;
}

/* Collects the sets that hold the address at key word `word`. */
static __always_inline bool find_sets(struct hg_pkt *pkt, struct hg_sets *sets, __u32 tree, __u32 word)
{
	struct prefix_walk walk = {.pkt = pkt, .sets = sets, .word = word, .place = {.at = tree}};

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

HG_STAGE __u64 hg_search_tree(struct hg_pkt *pkt, const struct hg_sets *sets, __u32 tree, __u32 best)
{
	struct rule_walk walk = {.pkt = pkt, .sets = sets};
	struct place place = {.at = tree, .best = best};
	int i, result;

	if (!pkt)
		return HG_NO_ENTRY;
	for (i = 0; i < INLINE_STEPS; i++) {
		result = rule_step(&walk.pending, &place, walk.pkt, walk.sets);
		if (result != WALK_ON) {
			walk.pkt->steps += i + 1;
			return result == WALK_END ? place.best : HG_NO_ENTRY;
		}
	}
	walk.pkt->steps += INLINE_STEPS;
	walk.place = place;
	bpf_loop(MAX_STEPS, rule_loop, &walk, 0);
	return walk.place.at == FAILED_PLACE ? HG_NO_ENTRY : walk.place.best;
}

/* The number of the lowest bit set, of which there is one: a multiplication by a de Bruijn sequence has those
 * six bits at the top that only this power of two brings there. */
static __always_inline __u32 lowest_bit(__u64 bits)
{
	static const __u8 numbers[64] = {
	    0,	1,  48, 2,  57, 49, 28, 3,  61, 58, 50, 42, 38, 29, 17, 4,  62, 55, 59, 36, 53, 51,
	    43, 22, 45, 39, 33, 30, 24, 18, 12, 5,  63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	    44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,  13, 8,  7,	6,
	};

	return numbers[(bits & -bits) * 0x03f79d71b4cb0a89ULL >> 58];
}

HG_STAGE __u64 hg_search_sets(const struct hg_root *root, struct hg_pkt *pkt, const struct hg_sets *sets,
			      __u32 word, __u32 best)
{
	const struct hg_slot *slot;
	__u64 found = best, bits;
	__u32 i, first;

	if (!root || !pkt || !sets || word >= 2 * HG_SET_WORDS)
		return HG_NO_ENTRY;
	first = word < HG_SET_WORDS ? root->src_set_slots : root->dst_set_slots;
	if (!first)
		return found;
	first += word % HG_SET_WORDS * 64;
	bits = sets->words[word];
	for (i = 0; i < 64 && bits; i++) {
		slot = get_slot(first + lowest_bit(bits));
		if (!slot)
			return HG_NO_ENTRY;
		bits &= bits - 1;
		if (slot->prio <= found)
			continue;
		if (ref_count(slot->ref)) {
			/* Most sets are named by few rules, and a walk costs more than a leaf. */
			pkt->steps++;
			found = hg_scan_rules(pkt, sets, slot->ref, found);
		} else {
			found = hg_search_tree(pkt, sets, slot->ref, found);
		}
		if (found == HG_NO_ENTRY)
			break;
	}
	return found;
}
