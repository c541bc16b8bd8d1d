// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Owns the map that flow.h declares. */
#include "flow.h"

struct hg_flows_map hg_flows SEC(".maps");
