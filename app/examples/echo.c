/* SPDX-License-Identifier: Apache-2.0
 *
 * A UDP echo: answers each datagram that Headgate steers to a target, from a thread a channel.
 *
 *   cc echo.c $(pkg-config --cflags --libs headgate-app) -pthread -o echo
 *   ./echo TARGET [SOCKET]
 *
 * Says on standard output when it has the target and when it has not, and at its end (SIGTERM, SIGINT) what it
 * did. */
#include <errno.h>
#include <headgate_app.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 64, WAIT_MS = 200 };

static struct hga* app;
static atomic_bool ending;
static atomic_ulong answered, ignored, unsent;

static void end(int signal) {
  (void)signal;
  ending = 1;
}

static void swap(void* a, void* b, size_t bytes) {
  unsigned char kept[16];
  memcpy(kept, a, bytes);
  memcpy(a, b, bytes);
  memcpy(b, kept, bytes);
}

/* Makes a datagram its answer. Checksums stay right: they are sums, and nothing but the order of what they sum up
 * changes. 0: it is not for us. */
static int turn_round(const struct hga_packet* packet) {
  struct ethhdr* ethernet = (struct ethhdr*)packet->data;
  struct udphdr* udp = (struct udphdr*)(packet->data + packet->l4);
  if ((packet->kind & HGA_KIND_PORTS) == 0 || (packet->kind & HGA_KIND_FRAGMENT) != 0) return 0;
  if (packet->l4 + sizeof(*udp) > packet->length || (ethernet->h_dest[0] & 1) != 0) return 0;
  if ((packet->kind & HGA_KIND_IPV6) != 0) {
    struct ipv6hdr* ip = (struct ipv6hdr*)(packet->data + packet->l3);
    if (ip->nexthdr != IPPROTO_UDP) return 0;
    swap(&ip->saddr, &ip->daddr, sizeof(ip->saddr));
  } else {
    struct iphdr* ip = (struct iphdr*)(packet->data + packet->l3);
    if (ip->protocol != IPPROTO_UDP) return 0;
    swap(&ip->saddr, &ip->daddr, sizeof(ip->saddr));
  }
  swap(&udp->source, &udp->dest, sizeof(udp->source));
  swap(ethernet->h_source, ethernet->h_dest, ETH_ALEN);
  return 1;
}

static void* serve(void* argument) {
  const unsigned channel = (unsigned)(size_t)argument;
  struct hga_packet packets[BATCH];
  while (!ending) {
    const int count = hga_receive(app, channel, packets, BATCH);
    for (int i = 0; i < count; ++i) {
      if (!turn_round(&packets[i])) {
        ++ignored;
      } else if (hga_send(app, channel, packets[i].port, packets[i].data, packets[i].length) != 0) {
        ++unsent;
      } else {
        ++answered;
      }
    }
    const int waited = count == 0 ? hga_wait(app, channel, WAIT_MS) : 0;
    if (count < 0 || (waited < 0 && waited != -EINTR)) break;
  }
  return NULL;
}

static void say(const char* text) {
  puts(text);
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: %s TARGET [SOCKET]\n", argv[0]);
    return 2;
  }
  const int error = hga_open(&app, argc == 3 ? argv[2] : NULL, argv[1], 0);
  if (error != 0) {
    fprintf(stderr, "%s: target %s: %s\n", argv[0], argv[1], strerror(-error));
    return 1;
  }
  const struct sigaction action = {.sa_handler = end};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);

  pthread_t threads[HGA_MOST_CHANNELS];
  unsigned started = 0;
  int connected = 0;
  while (!ending) {
    /* Headgate may have more workers one day than it had when we began. */
    for (const unsigned channels = hga_channels(app); started < channels; ++started) {
      if (pthread_create(&threads[started], NULL, serve, (void*)(size_t)started) != 0) return 1;
    }
    if (connected != (hga_status(app) == 0)) {
      connected = !connected;
      say(connected ? "connected" : "not connected");
    }
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    nanosleep(&pause, NULL);
  }
  for (unsigned i = 0; i < started; ++i) pthread_join(threads[i], NULL);
  hga_close(app);
  printf("answered %lu ignored %lu unsent %lu\n", answered, ignored, unsent);
  return 0;
}
