/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/session.h"

#include "index/lock.h"
#include "vma/error.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How long stop() waits for threads that do not come back. */
#define STUCK_SECONDS 5

/*
 * Takes a thread out of its read().  Sent again and again, since it may come just before that.  A cancelled
 * thread would be simpler, if the sanitizers could cope with it.
 */
#define WAKE_SIGNAL (SIGRTMIN + 5)
#define WAKE_MS     10

#define SLICE_NS 100000

/* What the kernel wants for a write of VMA_SESSION_MAX_WRITE bytes, with its header. */
#define BUFFER_SIZE (VMA_SESSION_MAX_WRITE + 16384u)

typedef struct {
  VmaSession *session;
  pthread_t id;
  guint8 *buffer; /* of a request */
} Thread;

struct VmaSession {
  struct fuse_session *fuse;
  guint max_threads;
  atomic_bool stopping;
  _Atomic guint idle;

  pthread_mutex_t lock; /* of the list */
  GPtrArray *threads;   /* Thread */
};

static void *serve (void *data);

/* The caller holds the lock. */
static gboolean
add_thread (VmaSession *session)
{
  Thread *thread = g_new0 (Thread, 1);
  sigset_t all, old;

  thread->session = session;
  thread->buffer = aligned_alloc (4096, BUFFER_SIZE);
  if (thread->buffer == NULL) {
    g_free (thread);
    return FALSE;
  }
  sigfillset (&all);
  sigdelset (&all, WAKE_SIGNAL);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  atomic_fetch_add (&session->idle, 1);
  int failed = pthread_create (&thread->id, NULL, serve, thread);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (failed != 0) {
    atomic_fetch_sub (&session->idle, 1);
    free (thread->buffer);
    g_free (thread);
    return FALSE;
  }
  g_ptr_array_add (session->threads, thread);
  return TRUE;
}

/* A request was taken by the last idle thread: somebody must be there for the next one. */
static void
see_that_one_is_idle (VmaSession *session)
{
  VMA_LOCK (&session->lock);
  if (atomic_load (&session->idle) == 0 && session->threads->len < session->max_threads
      && !atomic_load (&session->stopping))
    add_thread (session);
}

/* The next request; its size, or 0 at the end. */
static gsize
receive (Thread *thread)
{
  for (;;) {
    gssize n = read (fuse_session_fd (thread->session->fuse), thread->buffer, BUFFER_SIZE);

    if (atomic_load (&thread->session->stopping))
      return 0;
    if (n > 0)
      return (gsize) n;
    /* ENOENT: the request was given up by its sender.  ENODEV: unmounted. */
    if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != ENOENT))
      return 0;
  }
}

/* What a thread may ask of the scheduler; linux/sched/types.h has it, but not beside sched.h. */
typedef struct {
  guint32 size, policy;
  guint64 flags;
  gint32 nice;
  guint32 priority;
  guint64 runtime, deadline, period;
  guint32 util_min, util_max;
} Scheduling;

/*
 * Copying a large request takes a millisecond, for which the guest's threads may have to wait where processors
 * are few: a thread with short slices can be interrupted earlier, for as large a share.  Linux 6.12 and
 * later; others take no notice.
 */
static void
ask_for_short_slices (void)
{
  Scheduling scheduling;

  if (syscall (SYS_sched_getattr, 0, &scheduling, sizeof scheduling, 0) == 0) {
    scheduling.runtime = SLICE_NS;
    syscall (SYS_sched_setattr, 0, &scheduling, 0);
  }
}

static void *
serve (void *data)
{
  Thread *thread = data;
  VmaSession *session = thread->session;
  gsize n;

  ask_for_short_slices ();
  while ((n = receive (thread)) > 0) {
    struct fuse_buf request = { .mem = thread->buffer, .size = n };

    if (atomic_fetch_sub (&session->idle, 1) == 1)
      see_that_one_is_idle (session);
    fuse_session_process_buf (session->fuse, &request);
    atomic_fetch_add (&session->idle, 1);
  }
  return NULL;
}

static void
on_wake (int number G_GNUC_UNUSED)
{
}

VmaSession *
vma_session_mount (const struct fuse_lowlevel_ops *ops, gpointer data, const char *mountpoint,
                   const char *options, guint max_threads, GError **error)
{
  char *argv[] = { (char *)"vmabackup", (char *)"-o", (char *) options, NULL };
  struct fuse_args args = FUSE_ARGS_INIT (3, argv);
  VmaSession *session = g_new0 (VmaSession, 1);
  const struct sigaction wake = { .sa_handler = on_wake }; /* without SA_RESTART */

  sigaction (WAKE_SIGNAL, &wake, NULL);
  pthread_mutex_init (&session->lock, NULL);
  session->threads = g_ptr_array_new ();
  session->max_threads = max_threads;
  session->fuse = fuse_session_new (&args, ops, sizeof *ops, data);
  fuse_opt_free_args (&args);
  gboolean mounted = session->fuse != NULL && fuse_session_mount (session->fuse, mountpoint) == 0;
  if (mounted) {
    VMA_LOCK (&session->lock);
    if (add_thread (session))
      return session;
  }
  g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: cannot mount", mountpoint);
  if (mounted)
    fuse_session_unmount (session->fuse);
  vma_session_free (session);
  return NULL;
}

void
vma_session_relieve (VmaSession *session, guint n)
{
  VMA_LOCK (&session->lock);
  session->max_threads += n;
  while (n-- > 0 && !atomic_load (&session->stopping) && add_thread (session))
    ;
}

/* Waits for a thread; FALSE where it does not come back until then. */
static gboolean
join (Thread *thread, gint64 until)
{
  do {
    struct timespec soon;

    pthread_kill (thread->id, WAKE_SIGNAL);
    clock_gettime (CLOCK_REALTIME, &soon);
    soon.tv_nsec += WAKE_MS * 1000000L;
    soon.tv_sec += soon.tv_nsec / 1000000000L;
    soon.tv_nsec %= 1000000000L;
    if (pthread_timedjoin_np (thread->id, NULL, &soon) == 0)
      return TRUE;
  } while (g_get_monotonic_time () < until);
  return FALSE;
}

gboolean
vma_session_stop (VmaSession *session)
{
  gint64 until = g_get_monotonic_time () + STUCK_SECONDS * G_USEC_PER_SEC;
  gboolean all = TRUE;

  {
    VMA_LOCK (&session->lock);
    atomic_store (&session->stopping, TRUE);
  }
  fuse_session_exit (session->fuse);
  /* No thread is added any more: the list stays as it is. */
  for (guint i = session->threads->len; i-- > 0;) {
    Thread *thread = g_ptr_array_index (session->threads, i);

    if (!join (thread, until)) {
      all = FALSE;
      continue;
    }
    free (thread->buffer);
    g_free (thread);
    g_ptr_array_remove_index_fast (session->threads, i);
  }
  /* Closes our end: whoever still has a file open gets an error from here on. */
  fuse_session_unmount (session->fuse);
  return all;
}

void
vma_session_free (VmaSession *session)
{
  if (session->fuse != NULL)
    fuse_session_destroy (session->fuse);
  g_ptr_array_unref (session->threads);
  pthread_mutex_destroy (&session->lock);
  g_free (session);
}
