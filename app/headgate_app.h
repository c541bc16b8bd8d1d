/* SPDX-License-Identifier: Apache-2.0
 *
 * libheadgate-app: a process of yours takes the packets of one of Headgate's steer targets (those with an `app`
 * handler) and sends frames, over memory shared with headgated. It needs no privilege but the target's group.
 *
 * A target has as many channels as headgated has workers, numbered from 0; a flow stays with its channel as the
 * target's `spread` says. All channels are to be served: the process counts as hung, and packets take the target's
 * fallback, once any of them has seen no hga_wait() or hga_receive() for a second.
 *
 * Connections are mended in hga_wait() and hga_receive(), without the caller's doing: headgated may end, crash or
 * be upgraded. Packets that nobody has received and frames not yet taken are lost with it.
 *
 * Threads: each channel is one thread's at a time; different channels may be different threads'. hga_open() and
 * hga_close() are alone. Signals: calls that wait end with -EINTR. Errors are negative errno values. After fork()
 * a child must not use what its parent opened.
 *
 * Lengths are in bytes, times in milliseconds, numbers in the host's byte order; what is in frames is as on the
 * wire, from the Ethernet header on, without frame check sequence. */
#ifndef HEADGATE_APP_H
#define HEADGATE_APP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HGA_MOST_CHANNELS 64
/* hga_wait() and hga_receive(): all channels, for processes with one thread. */
#define HGA_ANY (~0U)
/* Of a frame. Longer packets are not delivered, and longer frames not sent. */
#define HGA_LEAST_LENGTH 14
#define HGA_MOST_LENGTH 16384

/* What a packet is, of hga_packet.kind. */
#define HGA_KIND_IPV4 (1U << 0)
#define HGA_KIND_IPV6 (1U << 1)
#define HGA_KIND_FRAGMENT (1U << 2) /* any fragment of a larger packet */
#define HGA_KIND_LATER (1U << 3)    /* a fragment that is not the first: no transport header */
#define HGA_KIND_PORTS (1U << 4)    /* the transport header is there and has ports: TCP, UDP ... */
#define HGA_KIND_ICMP (1U << 5)     /* the ICMP or ICMPv6 header is there */

struct hga;

struct hga_packet {
  /* All of the packet; may be changed. It is the channel's again with its next hga_wait() or hga_receive(). */
  uint8_t* data;
  uint32_t length;
  uint32_t rule; /* id of the rule that steered it, as hgctl get shows */
  uint16_t port; /* id of the interface it came by, likewise; 1 to 255 */
  uint16_t l3;   /* offset of the network header */
  uint16_t l4;   /* offset of the transport header, or of nothing unless `kind` has PORTS or ICMP */
  uint16_t channel;
  uint32_t kind; /* HGA_KIND_ */
};

/* hga_open(): goes on trying, in hga_wait() and hga_receive(), whatever the first attempt said. */
#define HGA_RETRY (1U << 0)

/* Asks headgated for a target. `socket`: its path, or NULL for HEADGATE_APP_SOCKET of the environment, or
 * /run/headgate/app.sock. 0; or, without HGA_RETRY:
 *   -ENOENT, -ECONNREFUSED  headgated is not there
 *   -ESRCH                  it knows no such target, or that has no app handler
 *   -EACCES                 the process is not in the target's group
 *   -EBUSY                  another process has the target
 *   -EPROTO                 headgated speaks another version than this library */
int hga_open(struct hga** app, const char* socket, const char* target, unsigned flags);
void hga_close(struct hga* app);

/* 0: connected. Otherwise why not, as hga_open() says. Any thread. */
int hga_status(const struct hga* app);
/* How many there are; 0: not connected. May differ once connected anew. Any thread. */
unsigned hga_channels(const struct hga* app);

/* Waits until there is something to be received, for at most `timeout` (-1: for ever). 1: there is; 0: the time is
 * over. After 0, hga_fd() becomes readable with the next packet. Flushes. */
int hga_wait(struct hga* app, unsigned channel, int timeout);
/* Takes up to `most` packets, oldest first, without waiting; how many. Flushes. */
int hga_receive(struct hga* app, unsigned channel, struct hga_packet* packets, unsigned most);

/* Sends a frame, which is copied, out of an interface: the `port` that a packet had. 0; -ENOTCONN, -ENOBUFS when
 * headgated has not taken what was sent before, -EMSGSIZE, -EINVAL. Headgated may drop it later, counted with what
 * its workers do. On its way with the channel's next hga_flush(), hga_wait() or hga_receive(). */
int hga_send(struct hga* app, unsigned channel, uint16_t port, const void* frame, uint32_t length);
void hga_flush(struct hga* app, unsigned channel);

/* For event loops of your own: a file that stays the same until hga_close(), of a channel or of all (HGA_ANY).
 * Call hga_wait(..., 0) before the loop sleeps, when it says that the file is readable, and four times a second
 * anyway. Or a negative errno. */
int hga_fd(struct hga* app, unsigned channel);

#ifdef __cplusplus
}
#endif

#endif
