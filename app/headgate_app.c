/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "app/headgate_app.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "app/session.h"
#include "app/wire.h"

_Static_assert(HGA_MOST_CHANNELS == HGA_MAX_CHANNELS && HGA_MOST_LENGTH == HGA_MAX_FRAME, "");

#define EXPORTED __attribute__((visibility("default")))

/* Of a process that waits: headgated takes those that have not come round for a second for hung. */
#define COME_ROUND_MS 200
/* How often it is looked whether headgated is there; and asked again, ever more rarely. */
#define LOOK_MS 100
#define FIRST_RETRY_MS 20
#define LAST_RETRY_MS 500
#define LAST_PORT 255

/* Its thread's alone. */
struct channel {
  struct session* session; /* NULL: none, or it has fewer channels */
  uint32_t generation;     /* of what the channel knows of hga.session */
  int epoll;               /* -1: not made yet */
  struct hga_channel_memory* shared;
  uint8_t *in, *out;
  uint32_t in_tail, in_released;
  uint32_t out_head, out_published, out_tail;
  bool armed;
  uint64_t beat, received;
};

struct hga {
  char path[108];
  char target[HGA_NAME_BYTES];
  int epoll;             /* over the channels' */
  uint32_t generation;   /* atomic: another number with each change of `session` */
  uint32_t channels;     /* atomic */
  int status;            /* atomic */
  uint64_t looked;       /* atomic, ms */
  pthread_mutex_t mutex; /* guards what follows, and the sessions' references */
  struct session* session;
  uint64_t retry_at, retry_ms;
  struct channel channel[HGA_MAX_CHANNELS];
};

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the connection ---- */

static void drop(struct session* session) {
  if (session != NULL && --session->references == 0) session_close(session);
}

static void set_session(struct hga* app, struct session* session, int status) {
  drop(app->session);
  app->session = session;
  __atomic_store_n(&app->channels, session == NULL ? 0 : session->channels, __ATOMIC_RELAXED);
  __atomic_store_n(&app->status, status, __ATOMIC_RELAXED);
  __atomic_fetch_add(&app->generation, 1, __ATOMIC_RELEASE);
}

static void ask(struct hga* app) {
  struct session* session = NULL;
  const int status = session_open(app->path, app->target, &session);
  if (status == 0) {
    app->retry_ms = 0;
    set_session(app, session, 0);
    return;
  }
  __atomic_store_n(&app->status, status, __ATOMIC_RELAXED);
  app->retry_ms = app->retry_ms == 0 ? FIRST_RETRY_MS : app->retry_ms * 2;
  if (app->retry_ms > LAST_RETRY_MS) app->retry_ms = LAST_RETRY_MS;
  app->retry_at = now_ms() + app->retry_ms;
}

/* Looks after the connection every now and then. Whoever finds another thread at it leaves it to that. */
static void mend(struct hga* app) {
  const uint64_t now = now_ms();
  const bool connected = __atomic_load_n(&app->channels, __ATOMIC_RELAXED) != 0;
  if (connected && now - __atomic_load_n(&app->looked, __ATOMIC_RELAXED) < LOOK_MS) return;
  if (pthread_mutex_trylock(&app->mutex) != 0) return;
  __atomic_store_n(&app->looked, now, __ATOMIC_RELAXED);
  if (app->session != NULL && session_lost(app->session)) {
    app->retry_at = 0;
    set_session(app, NULL, -ECONNRESET);
  }
  if (app->session == NULL && now >= app->retry_at) ask(app);
  pthread_mutex_unlock(&app->mutex);
}

/* ---- channels ---- */

static int watch(int epoll, int fd, uint32_t data) {
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = data};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

enum { FROM_BELL, FROM_SOCKET };

static int make_epoll(struct hga* app, struct channel* channel) {
  if (channel->epoll >= 0) return 0;
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return -errno;
  const int error = watch(app->epoll, epoll, (uint32_t)(channel - app->channel));
  if (error != 0) {
    close(epoll);
    return error;
  }
  channel->epoll = epoll;
  return 0;
}

/* Moves a channel from the session it knows to the one there is. */
static int change(struct hga* app, struct channel* channel) {
  const uint32_t index = (uint32_t)(channel - app->channel);
  int error = make_epoll(app, channel);
  if (error != 0) return error;
  struct session* former = channel->session;
  if (former != NULL) {
    epoll_ctl(channel->epoll, EPOLL_CTL_DEL, former->bells[index], NULL);
    epoll_ctl(channel->epoll, EPOLL_CTL_DEL, former->socket, NULL);
  }
  pthread_mutex_lock(&app->mutex);
  drop(former);
  struct session* session = app->session;
  if (session != NULL && index >= session->channels) session = NULL;
  if (session != NULL) ++session->references;
  const uint32_t generation = __atomic_load_n(&app->generation, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&app->mutex);

  *channel = (struct channel){.session = session, .generation = generation, .epoll = channel->epoll};
  if (session == NULL) return 0;
  channel->shared = (struct hga_channel_memory*)(session->memory + hga_channel_offset(index, session->ring_bytes));
  channel->in = (uint8_t*)(channel->shared + 1);
  channel->out = channel->in + session->ring_bytes;
  error = watch(channel->epoll, session->bells[index], FROM_BELL);
  return error != 0 ? error : watch(channel->epoll, session->socket, FROM_SOCKET);
}

static void release(struct channel* channel) {
  if (channel->in_released == channel->in_tail) return;
  channel->in_released = channel->in_tail;
  __atomic_store_n(&channel->shared->received, channel->received, __ATOMIC_RELAXED);
  __atomic_store_n(&channel->shared->in.tail, channel->in_tail, __ATOMIC_RELEASE);
}

static void flush(struct channel* channel, int bell) {
  if (channel->out_published == channel->out_head) return;
  struct hga_ring* ring = &channel->shared->out;
  channel->out_published = channel->out_head;
  __atomic_store_n(&ring->head, channel->out_head, __ATOMIC_RELEASE);
  /* Either headgated sees that, or we see that it sleeps. */
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (__atomic_load_n(&ring->sleeping, __ATOMIC_RELAXED) == 0) return;
  if (__atomic_exchange_n(&ring->sleeping, 0, __ATOMIC_SEQ_CST) == 0) return;
  const char byte = 0;
  if (send(bell, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return; /* rung enough, or gone */
}

/* What every call begins with: gives back what the caller had, sends what it sent, and shows that it is alive. */
static int come_round(struct hga* app, unsigned index) {
  struct channel* channel = &app->channel[index];
  mend(app);
  if (channel->session != NULL) {
    release(channel);
    flush(channel, channel->session->bells[index]);
  }
  if (channel->generation != __atomic_load_n(&app->generation, __ATOMIC_ACQUIRE)) {
    const int error = change(app, channel);
    if (error != 0) return error;
  }
  if (channel->session != NULL) __atomic_store_n(&channel->shared->beat, ++channel->beat, __ATOMIC_RELAXED);
  return 0;
}

static bool has_packets(const struct channel* channel) {
  return channel->session != NULL &&
         __atomic_load_n(&channel->shared->in.head, __ATOMIC_ACQUIRE) != channel->in_tail;
}

static void arm(struct channel* channel) {
  if (channel->session == NULL) return;
  channel->armed = true;
  __atomic_store_n(&channel->shared->in.sleeping, 1, __ATOMIC_SEQ_CST);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void disarm(struct channel* channel) {
  if (!channel->armed) return;
  channel->armed = false;
  __atomic_store_n(&channel->shared->in.sleeping, 0, __ATOMIC_RELAXED);
}

static unsigned take(struct hga* app, unsigned index, struct hga_packet* packets, unsigned most) {
  struct channel* channel = &app->channel[index];
  if (!has_packets(channel)) return 0;
  disarm(channel);
  const uint32_t head = __atomic_load_n(&channel->shared->in.head, __ATOMIC_ACQUIRE);
  const uint32_t mask = channel->session->ring_bytes - 1;
  unsigned count = 0;
  while (count < most && channel->in_tail != head) {
    struct hga_record* record = (struct hga_record*)(channel->in + (channel->in_tail & mask));
    if ((record->flags & HGA_RECORD_SKIP) != 0) {
      channel->in_tail += (uint32_t)sizeof(*record) + record->length;
      continue;
    }
    packets[count++] = (struct hga_packet){.data = (uint8_t*)(record + 1),
                                           .length = record->length,
                                           .rule = record->rule,
                                           .port = record->port,
                                           .l3 = record->l3,
                                           .l4 = record->l4,
                                           .channel = (uint16_t)index,
                                           .kind = record->kind};
    channel->in_tail += hga_record_bytes(record->length);
  }
  channel->received += count;
  return count;
}

static bool has_room(struct channel* channel, uint32_t bytes) {
  const uint32_t size = channel->session->ring_bytes;
  if (size - (channel->out_head - channel->out_tail) >= bytes) return true;
  channel->out_tail = __atomic_load_n(&channel->shared->out.tail, __ATOMIC_ACQUIRE);
  return size - (channel->out_head - channel->out_tail) >= bytes;
}

/* ---- waiting ---- */

/* What woke us is dealt with: bells are silent, and the connection is looked after. */
static int listen_to(struct hga* app, unsigned index, int timeout) {
  struct channel* channel = &app->channel[index];
  struct epoll_event events[2];
  const int count = epoll_wait(channel->epoll, events, 2, timeout);
  if (count < 0) return -errno;
  char byte;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.u32 == FROM_SOCKET) {
      __atomic_store_n(&app->looked, 0, __ATOMIC_RELAXED);
    } else {
      while (recv(channel->session->bells[index], &byte, 1, MSG_DONTWAIT) >= 0) continue;
    }
  }
  return count;
}

static int listen_to_all(struct hga* app, unsigned channels, int timeout) {
  struct epoll_event events[HGA_MAX_CHANNELS];
  const int count = epoll_wait(app->epoll, events, HGA_MAX_CHANNELS, timeout);
  if (count < 0) return -errno;
  for (unsigned index = 0; index < channels; ++index) {
    const int heard = count == 0 ? 0 : listen_to(app, index, 0);
    if (heard < 0) return heard;
  }
  return count;
}

/* Channels first to first + count - 1; more of them later if `all`. */
static unsigned count_of(const struct hga* app, unsigned channel) {
  const unsigned channels = hga_channels(app);
  return channel != HGA_ANY || channels == 0 ? 1 : channels;
}

/* 1: there is something; 0: there will be a ring when there is. */
static int look(struct hga* app, unsigned first, unsigned count) {
  for (unsigned index = first; index < first + count; ++index) {
    const int error = come_round(app, index);
    if (error != 0) return error;
    struct channel* channel = &app->channel[index];
    if (!has_packets(channel)) arm(channel);
    if (has_packets(channel)) return 1;
  }
  return 0;
}

static bool is_channel(unsigned channel) { return channel < HGA_MAX_CHANNELS || channel == HGA_ANY; }

EXPORTED int hga_wait(struct hga* app, unsigned channel, int timeout) {
  if (!is_channel(channel)) return -EINVAL;
  const uint64_t begun = now_ms();
  const unsigned first = channel == HGA_ANY ? 0 : channel;
  while (true) {
    const unsigned count = count_of(app, channel);
    const int found = look(app, first, count);
    if (found != 0) return found;
    const uint64_t passed = now_ms() - begun;
    int slice = hga_channels(app) == 0 ? FIRST_RETRY_MS : COME_ROUND_MS;
    const bool last = timeout >= 0 && passed + (uint64_t)slice >= (uint64_t)timeout;
    if (last) slice = passed >= (uint64_t)timeout ? 0 : (int)((uint64_t)timeout - passed);
    const int heard = channel == HGA_ANY ? listen_to_all(app, count, slice) : listen_to(app, first, slice);
    if (heard < 0) return heard;
    if (heard == 0 && last) return 0;
  }
}

EXPORTED int hga_receive(struct hga* app, unsigned channel, struct hga_packet* packets, unsigned most) {
  if (!is_channel(channel)) return -EINVAL;
  const unsigned first = channel == HGA_ANY ? 0 : channel;
  const unsigned count = count_of(app, channel);
  unsigned taken = 0;
  for (unsigned index = first; index < first + count; ++index) {
    const int error = come_round(app, index);
    if (error != 0) return error;
    /* Each has its share, so that a busy one leaves something for the others. */
    const unsigned share = (most - taken) / (first + count - index);
    taken += take(app, index, packets + taken, share == 0 ? most - taken : share);
  }
  return (int)taken;
}

EXPORTED int hga_send(struct hga* app, unsigned index, uint16_t port, const void* frame, uint32_t length) {
  if (index >= HGA_MAX_CHANNELS || port == 0 || port > LAST_PORT) return -EINVAL;
  if (length < HGA_LEAST_LENGTH || length > HGA_MAX_FRAME) return -EMSGSIZE;
  struct channel* channel = &app->channel[index];
  if (channel->session == NULL) {
    const int error = come_round(app, index);
    if (error != 0) return error;
    if (channel->session == NULL) return -ENOTCONN;
  }
  const uint32_t size = channel->session->ring_bytes, bytes = hga_record_bytes(length);
  uint32_t position = channel->out_head & (size - 1);
  const uint32_t skipped = position + bytes > size ? size - position : 0;
  if (!has_room(channel, skipped + bytes)) {
    flush(channel, channel->session->bells[index]);
    return -ENOBUFS;
  }
  if (skipped != 0) {
    struct hga_record* rest = (struct hga_record*)(channel->out + position);
    *rest = (struct hga_record){.length = skipped - (uint32_t)sizeof(*rest), .flags = HGA_RECORD_SKIP};
    position = 0;
  }
  struct hga_record* record = (struct hga_record*)(channel->out + position);
  *record = (struct hga_record){.length = length, .port = port};
  memcpy(record + 1, frame, length);
  channel->out_head += skipped + bytes;
  return 0;
}

EXPORTED void hga_flush(struct hga* app, unsigned index) {
  if (index >= HGA_MAX_CHANNELS || app->channel[index].session == NULL) return;
  flush(&app->channel[index], app->channel[index].session->bells[index]);
}

EXPORTED int hga_fd(struct hga* app, unsigned channel) {
  if (channel == HGA_ANY) return app->epoll;
  if (channel >= HGA_MAX_CHANNELS) return -EINVAL;
  const int error = make_epoll(app, &app->channel[channel]);
  return error != 0 ? error : app->channel[channel].epoll;
}

/* ---- the whole ---- */

EXPORTED int hga_status(const struct hga* app) { return __atomic_load_n(&app->status, __ATOMIC_RELAXED); }
EXPORTED unsigned hga_channels(const struct hga* app) { return __atomic_load_n(&app->channels, __ATOMIC_RELAXED); }

EXPORTED int hga_open(struct hga** made, const char* socket, const char* target, unsigned flags) {
  if (socket == NULL) socket = getenv("HEADGATE_APP_SOCKET");
  if (socket == NULL) socket = HGA_DEFAULT_SOCKET;
  struct hga* app = calloc(1, sizeof(*app));
  if (app == NULL) return -ENOMEM;
  if (strlen(socket) >= sizeof(app->path) || strlen(target) >= sizeof(app->target)) {
    free(app);
    return -EINVAL;
  }
  strcpy(app->path, socket);
  strcpy(app->target, target);
  app->status = -ENOTCONN;
  for (unsigned i = 0; i < HGA_MAX_CHANNELS; ++i) app->channel[i].epoll = -1;
  app->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (app->epoll < 0) {
    const int error = -errno;
    free(app);
    return error;
  }
  pthread_mutex_init(&app->mutex, NULL);
  ask(app);
  if (app->status != 0 && (flags & HGA_RETRY) == 0) {
    const int status = app->status;
    hga_close(app);
    return status;
  }
  *made = app;
  return 0;
}

EXPORTED void hga_close(struct hga* app) {
  if (app == NULL) return;
  for (unsigned i = 0; i < HGA_MAX_CHANNELS; ++i) {
    struct channel* channel = &app->channel[i];
    if (channel->session != NULL) {
      release(channel);
      flush(channel, channel->session->bells[i]);
    }
    drop(channel->session);
    if (channel->epoll >= 0) close(channel->epoll);
  }
  drop(app->session);
  close(app->epoll);
  pthread_mutex_destroy(&app->mutex);
  free(app);
}
