// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Owns the map and the switch that flow.h declares. */
#include "flow.h"

struct hg_flows_map hg_flows SEC(".maps");

const volatile __u8 use_flow_cache = 1;
