// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Owns the maps that tables.h declares. */
#include "tables.h"

struct hg_active_map hg_active SEC(".maps");
struct hg_roots_map hg_roots SEC(".maps");
struct hg_ifindexes_map hg_ifindexes SEC(".maps");
struct hg_ports_map hg_ports SEC(".maps");
