/* SPDX-License-Identifier: Apache-2.0
 *
 * What headgated and libheadgate-app say to each other: a greeting over a unix socket (SOCK_SEQPACKET), then
 * frames over shared memory. Numbers are in the host's byte order. What follows a change here is another
 * HGA_VERSION.
 *
 * The memory is one memfd a session: a page for the session, then for each channel (one of headgated's workers)
 * two rings of bytes, one for each direction. Each has one writer and one reader. A ring holds records, each a
 * header and the frame's bytes, at multiples of HGA_ALIGN and never across the end: what is left there is a record
 * of HGA_RECORD_SKIP. `head` and `tail` count bytes ever written and read, modulo 2^32.
 *
 * Whoever finds a ring empty and is about to sleep sets its `sleeping`, and looks once more. Who writes and finds
 * it set clears it and sends a byte by the channel's socket (one end of a SOCK_DGRAM pair, for both directions).
 * headgated trusts nothing that it reads here. */
#ifndef HEADGATE_APP_WIRE_H
#define HEADGATE_APP_WIRE_H

#include <stdint.h>

#define HGA_MAGIC 0x31616768U /* "hga1" */
#define HGA_VERSION 1
#define HGA_DEFAULT_SOCKET "/run/headgate/app.sock"
#define HGA_NAME_BYTES 64   /* of a target's name, with the 0 at its end */
#define HGA_MAX_CHANNELS 64 /* fewer file descriptors than a message may have (SCM_MAX_FD) */
#define HGA_MAX_FRAME 16384U
#define HGA_ALIGN 64U
#define HGA_PAGE 4096U

struct hga_hello {
  uint32_t magic;
  uint32_t version;
  char target[HGA_NAME_BYTES];
};

/* With it come the memfd, and a socket for each channel; nothing when `error` is set. Then the connection is
 * closed. */
struct hga_welcome {
  uint32_t magic;
  uint32_t version;
  int32_t error; /* 0, or errno: EACCES, EBUSY, ESRCH, EPROTO ... */
  uint32_t channels;
  uint32_t ring_bytes; /* a power of two */
  uint32_t pad;
  uint64_t memory_bytes;
  char message[128]; /* what `error` means, for people */
};

struct hga_record {
  uint32_t length; /* of the frame; to be skipped: of what is left after this header */
  uint16_t flags;
  uint16_t port; /* id of the interface it came by, or is to leave by */
  uint32_t rule; /* from here: only of frames that came. Id of the rule that steered it */
  uint32_t kind; /* enum hg_kind */
  uint16_t l3;   /* offset of the network header */
  uint16_t l4;   /* and of the transport header */
  uint32_t pad[3];
};
#define HGA_RECORD_SKIP 1

struct hga_ring {
  uint32_t head; /* by the writer */
  uint32_t head_pad[15];
  uint32_t tail; /* by the reader */
  uint32_t sleeping;
  uint32_t tail_pad[14];
};

/* Each is followed by the bytes of `in`, then those of `out`. */
struct hga_channel_memory {
  struct hga_ring in;  /* from headgated */
  struct hga_ring out; /* to headgated */
  uint64_t beat;       /* by the process: another number whenever it comes round */
  uint64_t received;   /* by the process: frames taken out of `in` */
  uint8_t pad[HGA_PAGE - 2 * sizeof(struct hga_ring) - 16];
};

#ifdef __cplusplus
static_assert(sizeof(hga_record) == 32 && sizeof(hga_ring) == 128 && sizeof(hga_channel_memory) == HGA_PAGE, "");
#else
_Static_assert(sizeof(struct hga_record) == 32 && sizeof(struct hga_ring) == 128 &&
                   sizeof(struct hga_channel_memory) == HGA_PAGE,
               "");
#endif

/* Bytes of a frame's record, and where a channel's memory begins. */
static inline uint32_t hga_record_bytes(uint32_t length) {
  return (uint32_t)(sizeof(struct hga_record) + length + HGA_ALIGN - 1) & ~(HGA_ALIGN - 1);
}
static inline uint64_t hga_channel_offset(uint32_t channel, uint32_t ring_bytes) {
  return HGA_PAGE + channel * ((uint64_t)sizeof(struct hga_channel_memory) + 2 * (uint64_t)ring_bytes);
}

#endif
