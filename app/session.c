/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "app/session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* headgated answers at once, unless it hangs. */
#define ANSWER_SECONDS 1

#define MOST_FILES (HGA_MAX_CHANNELS + 1)

struct answer {
  struct hga_welcome welcome;
  int files[MOST_FILES];
  unsigned file_count;
};

static int greet(int socket, const char* path, const char* target) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct hga_hello hello = {.magic = HGA_MAGIC, .version = HGA_VERSION};
  const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
  if (strlen(path) >= sizeof(address.sun_path) || strlen(target) >= sizeof(hello.target)) return -EINVAL;
  strcpy(address.sun_path, path);
  strcpy(hello.target, target);
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  if (connect(socket, (const struct sockaddr*)&address, sizeof(address)) != 0) return -errno;
  if (send(socket, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello)) return -errno;
  return 0;
}

static int receive(int socket, struct answer* answer) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * MOST_FILES)];
  } control;
  struct iovec bytes = {&answer->welcome, sizeof(answer->welcome)};
  struct msghdr message = {
      .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
  const ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (length < 0) return -errno;
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    answer->file_count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(answer->files, CMSG_DATA(header), answer->file_count * sizeof(int));
  }
  if (length == 0) return -ECONNRESET;
  if (length != sizeof(answer->welcome) || (message.msg_flags & MSG_CTRUNC) != 0) return -EPROTO;
  return 0;
}

static int check(const struct answer* answer) {
  const struct hga_welcome* welcome = &answer->welcome;
  if (welcome->magic != HGA_MAGIC) return -EPROTO;
  if (welcome->error != 0) return -welcome->error;
  if (welcome->version != HGA_VERSION) return -EPROTO;
  if (welcome->channels < 1 || welcome->channels > HGA_MAX_CHANNELS) return -EPROTO;
  if (welcome->ring_bytes < HGA_PAGE || (welcome->ring_bytes & (welcome->ring_bytes - 1)) != 0) return -EPROTO;
  if (welcome->memory_bytes != hga_channel_offset(welcome->channels, welcome->ring_bytes)) return -EPROTO;
  return answer->file_count == welcome->channels + 1 ? 0 : -EPROTO;
}

/* Takes over the files when it succeeds. */
static int build(const struct answer* answer, int socket, struct session** made) {
  struct session* session = calloc(1, sizeof(*session));
  if (session == NULL) return -ENOMEM;
  void* memory = mmap(NULL, answer->welcome.memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, answer->files[0], 0);
  if (memory == MAP_FAILED) {
    const int error = -errno;
    free(session);
    return error;
  }
  close(answer->files[0]);
  session->references = 1;
  session->socket = socket;
  session->memory = memory;
  session->memory_bytes = answer->welcome.memory_bytes;
  session->channels = answer->welcome.channels;
  session->ring_bytes = answer->welcome.ring_bytes;
  memcpy(session->bells, answer->files + 1, session->channels * sizeof(int));
  *made = session;
  return 0;
}

int session_open(const char* path, const char* target, struct session** session) {
  struct answer answer = {.file_count = 0};
  const int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connection < 0) return -errno;
  int error = greet(connection, path, target);
  if (error == 0) error = receive(connection, &answer);
  if (error == 0) error = check(&answer);
  if (error == 0) error = build(&answer, connection, session);
  if (error == 0) return 0;
  for (unsigned i = 0; i < answer.file_count; ++i) close(answer.files[i]);
  close(connection);
  /* Of a socket's time limits. */
  return error == -EAGAIN ? -ETIMEDOUT : error;
}

void session_close(struct session* session) {
  munmap(session->memory, session->memory_bytes);
  for (uint32_t i = 0; i < session->channels; ++i) close(session->bells[i]);
  close(session->socket);
  free(session);
}

int session_lost(const struct session* session) {
  struct pollfd polled = {.fd = session->socket, .events = POLLIN};
  /* headgated says nothing after its welcome but that it ends. */
  return poll(&polled, 1, 0) > 0;
}
