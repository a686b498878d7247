/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list of what is allowed.  All else fails with ENOSYS, so that libraries fall back on what they
 * did before there was such a call; what is refused on purpose, by its arguments, with EPERM.
 * Nothing is killed: a message is better than a mount that dies.
 */
#include "sandbox/filter.h"

#ifdef HAVE_SECCOMP
#include <errno.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* By name: what this kernel's or that architecture's table does not have is passed over. */
static const char *const allowed[] = {
  /* files that are open */
  "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
  "pwritev2", "lseek", "_llseek", "close", "close_range", "fsync", "fdatasync", "sync_file_range",
  "sync_file_range2", "fallocate", "ftruncate", "ftruncate64", "fadvise64", "fadvise64_64",
  "arm_fadvise64_64", "readahead", "copy_file_range", "splice", "vmsplice", "tee", "flock", "dup",
  "dup2", "dup3", "fcntl", "fcntl64", "pipe", "pipe2", "utimensat",
  "utimensat_time64", "memfd_create", "eventfd", "eventfd2",
  /* names, within what Landlock leaves */
  "open", "openat", "openat2", "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64",
  "newfstatat",
  "fstatat64", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "access", "faccessat",
  "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "mkdir",
  "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "umask",
  /* memory */
  "brk", "munmap", "mremap", "madvise", "mincore", "mlock", "munlock", "membarrier", "msync",
  /* threads, signals and time */
  "exit", "exit_group", "futex", "futex_time64", "futex_waitv", "futex_wake", "futex_wait",
  "futex_requeue", "set_robust_list", "get_robust_list", "rseq", "set_tid_address",
  "set_thread_area",
  "get_thread_area", "arch_prctl", "gettid", "getpid", "getppid", "getpgrp", "getpgid", "getsid",
  "setsid", "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler",
  "sched_get_priority_max", "sched_get_priority_min", "getpriority", "getcpu", "rt_sigaction",
  "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend",
  "sigreturn",
  "sigaltstack", "pause", "restart_syscall", "nanosleep", "clock_nanosleep",
  "clock_nanosleep_time64",
  "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday", "time",
  "times", "wait4", "waitid", "waitpid",
  /* waiting */
  "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64",
  "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
  /* sockets that are connected */
  "sendto", "send", "sendmsg", "sendmmsg", "recvfrom", "recv", "recvmsg", "recvmmsg", "shutdown",
  "getsockname", "getpeername", "getsockopt", "setsockopt",
  /* what one may know */
  "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32",
  "getgroups", "getgroups32", "getresuid", "getresgid", "capget", "uname", "sysinfo", "getrusage",
  "getrlimit", "ugetrlimit", "getrandom",
  /* less than there was */
  "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp",
};

/* Where connections are made; a library may have to be loaded for a name or a certificate. */
static const char *const allowed_network[] = { "connect", "bind", "mmap", "mmap2", "mprotect" };
static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_VSOCK, AF_NETLINK };

#define REFUSE SCMP_ACT_ERRNO (EPERM)

/* Comparisons of an argument; the library's own macros leave members out. */
#define EQUALS(number, value)                                                                      \
  ((struct scmp_arg_cmp){ .arg = (number), .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t) (value) })
#define BITS(number, mask, value)                                                                  \
  ((struct scmp_arg_cmp){                                                                          \
      .arg = (number), .op = SCMP_CMP_MASKED_EQ, .datum_a = (mask), .datum_b = (value) })

static gboolean
add (scmp_filter_ctx filter, uint32_t action, int number, struct scmp_arg_cmp comparison)
{
  return seccomp_rule_add_array (filter, action, number, 1, &comparison) == 0;
}

static gboolean
allow (scmp_filter_ctx filter, const char *const *names, gsize n)
{
  for (gsize i = 0; i < n; i++) {
    int number = seccomp_syscall_resolve_name (names[i]);
    /* Negative ones are those that other architectures have. */
    if (number >= 0 && seccomp_rule_add (filter, SCMP_ACT_ALLOW, number, 0) != 0)
      return FALSE;
  }
  return TRUE;
}

/* Memory is never both written and executed, and no code is loaded any more. */
static gboolean
allow_memory (scmp_filter_ctx filter)
{
  static const char *const names[] = { "mmap", "mmap2", "mprotect" };

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++) {
    int number = seccomp_syscall_resolve_name (names[i]);
    if (number < 0)
      continue;
    if (!add (filter, SCMP_ACT_ALLOW, number, BITS (2, PROT_EXEC, 0))
        || !add (filter, REFUSE, number, BITS (2, PROT_EXEC, PROT_EXEC)))
      return FALSE;
  }
  return TRUE;
}

static gboolean
allow_network (scmp_filter_ctx filter)
{
  if (!allow (filter, allowed_network, G_N_ELEMENTS (allowed_network)))
    return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS (families); i++)
    if (!add (filter, SCMP_ACT_ALLOW, SCMP_SYS (socket), EQUALS (0, families[i])))
      return FALSE;
  return TRUE;
}

/* Calls that do more than one thing. */
static gboolean
allow_by_arguments (scmp_filter_ctx filter)
{
  static const unsigned long prctls[] = { PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE,
                                          PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS,
#ifdef PR_SET_VMA
                                          PR_SET_VMA, /* names of memory, for the allocator */
#endif
  };
  /* Whether it is a terminal; what libnbd asks a socket.  Not: to type into a terminal. */
  static const unsigned long ioctls[] = { TCGETS, FIONREAD, FIONBIO };
  static const char *const refused[]
      = { "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
          "kill", "mount", "umount2", "socketpair", "setuid", "setgid", "setgroups", "capset",
          "bpf", "io_uring_setup", "unshare", "setns", "chroot", "open_by_handle_at" };

  for (gsize i = 0; i < G_N_ELEMENTS (refused); i++) {
    int number = seccomp_syscall_resolve_name (refused[i]);
    if (number >= 0 && seccomp_rule_add (filter, REFUSE, number, 0) != 0)
      return FALSE;
  }
  for (gsize i = 0; i < G_N_ELEMENTS (ioctls); i++)
    if (!add (filter, SCMP_ACT_ALLOW, SCMP_SYS (ioctl), EQUALS (1, ioctls[i])))
      return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS (prctls); i++)
    if (!add (filter, SCMP_ACT_ALLOW, SCMP_SYS (prctl), EQUALS (0, prctls[i])))
      return FALSE;
  /*
   * Threads, and no processes.  clone3() has its flags in memory, where no filter sees them: it
   * gets ENOSYS like all that is unknown, and the C library takes clone().
   */
#if defined(__s390__) || defined(__s390x__)
  const struct scmp_arg_cmp is_thread = BITS (1, CLONE_THREAD, CLONE_THREAD);
#else
  const struct scmp_arg_cmp is_thread = BITS (0, CLONE_THREAD, CLONE_THREAD);
#endif
  return add (filter, SCMP_ACT_ALLOW, SCMP_SYS (clone), is_thread)
         /* Signals to ourselves: abort(), and the end of threads. */
         && add (filter, SCMP_ACT_ALLOW, SCMP_SYS (tgkill), EQUALS (0, getpid ()))
         /* Limits may be asked for, and not be set. */
         && add (filter, SCMP_ACT_ALLOW, SCMP_SYS (prlimit64), EQUALS (2, 0));
}

gboolean
vma_filter_is_available (void)
{
  return prctl (PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

gboolean
vma_filter_enter (gboolean network)
{
  scmp_filter_ctx filter = seccomp_init (SCMP_ACT_ERRNO (ENOSYS));

  if (filter == NULL) {
    errno = ENOMEM;
    return FALSE;
  }
  int result = -EINVAL;
  if (allow (filter, allowed, G_N_ELEMENTS (allowed)) && allow_by_arguments (filter)
      && (network ? allow_network (filter)
                  : allow_memory (filter)
                        && seccomp_rule_add (filter, REFUSE, SCMP_SYS (socket), 0) == 0))
    result = seccomp_load (filter);
  seccomp_release (filter);
  errno = -result;
  return result == 0;
}

#else /* !HAVE_SECCOMP */

#include <errno.h>

gboolean
vma_filter_is_available (void)
{
  return FALSE;
}

gboolean
vma_filter_enter (gboolean network G_GNUC_UNUSED)
{
  errno = ENOSYS;
  return FALSE;
}

#endif
