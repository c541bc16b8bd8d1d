/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to headgated with the memory that came by it. Shared by the channels' threads: counted by whoever
 * calls, under a lock. */
#ifndef HEADGATE_APP_SESSION_H
#define HEADGATE_APP_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "app/wire.h"

struct session {
  unsigned references;
  int socket;
  uint8_t* memory;
  size_t memory_bytes;
  uint32_t channels;
  uint32_t ring_bytes;
  int bells[HGA_MAX_CHANNELS];
};

/* Asks for a target. 0, or a negative errno as of hga_open(). */
int session_open(const char* path, const char* target, struct session** session);
void session_close(struct session* session);
/* headgated has closed it, or is gone. */
int session_lost(const struct session* session);

#endif
