/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A preloaded library that does in vmafs what a parser would that an archive has taken over: at the
 * first read of $HIJACK_FILE, and at the first one by another thread, it tries what it can, and
 * writes how that went to $HIJACK_OUT, which it has opened beforehand:
 *
 *   WHERE WHAT done|ERRNO
 *
 * $HIJACK_HOME is a directory: in it "beside" is a file to be read, "victim" one to be destroyed.
 * $HIJACK_PID is a process to be attacked.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int out = -1;
static char home[PATH_MAX];
static pid_t target;
static atomic_flag main_done = ATOMIC_FLAG_INIT, thread_done = ATOMIC_FLAG_INIT;

__attribute__ ((constructor)) static void
prepare (void)
{
  const char *path = getenv ("HIJACK_OUT"), *pid = getenv ("HIJACK_PID");

  if (path == NULL || getenv ("HIJACK_HOME") == NULL || pid == NULL)
    return;
  snprintf (home, sizeof home, "%s", getenv ("HIJACK_HOME"));
  target = (pid_t) atol (pid);
  out = open (path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static char *
in_home (const char *name)
{
  char *path = NULL;

  return asprintf (&path, "%s/%s", home, name) >= 0 ? path : NULL;
}

/* --- what is tried; < 0 and errno: in vain ---------------------------------------------------- */

static long
try_open (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0600);

  if (fd >= 0)
    close (fd);
  return fd;
}

static long
read_shadow (void)
{
  return try_open ("/etc/shadow", O_RDONLY);
}

static long
read_beside (void)
{
  return try_open (in_home ("beside"), O_RDONLY);
}

static long
list_root (void)
{
  return try_open ("/", O_RDONLY | O_DIRECTORY);
}

static long
write_archive (void)
{
  return try_open (getenv ("HIJACK_FILE"), O_WRONLY);
}

static long
write_victim (void)
{
  return try_open (in_home ("victim"), O_WRONLY);
}

static long
make_file (void)
{
  return try_open (in_home ("made"), O_WRONLY | O_CREAT);
}

static long
make_link (void)
{
  return symlink ("/etc/shadow", in_home ("link"));
}

static long
truncate_victim (void)
{
  return truncate (in_home ("victim"), 0);
}

static long
chmod_victim (void)
{
  return chmod (in_home ("victim"), 0666);
}

static long
rename_victim (void)
{
  return rename (in_home ("victim"), in_home ("victim2"));
}

static long
delete_victim (void)
{
  return unlink (in_home ("victim2")) == 0 ? 0 : unlink (in_home ("victim"));
}

static long
start_program (void)
{
  static char *const argv[] = { (char *) "true", NULL };
  int status = 0;
  pid_t child = (pid_t) syscall (SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

  if (child < 0) /* so in the place of this one */
    return execv ("/bin/true", argv);
  if (child == 0) {
    execv ("/bin/true", argv);
    _exit (errno);
  }
  waitpid (child, &status, 0);
  errno = WEXITSTATUS (status);
  return errno == 0 ? 0 : -1;
}

static long
start_process (void)
{
  pid_t child = (pid_t) syscall (SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

  if (child == 0)
    _exit (0);
  if (child > 0)
    waitpid (child, NULL, 0);
  return child;
}

static long
connect_tcp (void)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (9) };
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

  if (fd < 0)
    return -1;
  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  long result = connect (fd, (struct sockaddr *) &address, sizeof address);
  if (result < 0 && (errno == EINPROGRESS || errno == ECONNREFUSED))
    result = 0; /* it was tried */
  close (fd);
  return result;
}

static long
connect_unix (void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/nowhere" };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd < 0)
    return -1;
  long result = connect (fd, (struct sockaddr *) &address, sizeof address);
  if (result < 0 && errno == ENOENT)
    result = 0;
  close (fd);
  return result;
}

static long
send_packet (void)
{
  int fd = socket (AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

  if (fd >= 0)
    close (fd);
  return fd;
}

static long
trace_process (void)
{
  long result = ptrace (PTRACE_SEIZE, target, NULL, NULL);

  if (result == 0 && ptrace (PTRACE_INTERRUPT, target, NULL, NULL) == 0) {
    waitpid (target, NULL, __WALL);
    ptrace (PTRACE_DETACH, target, NULL, NULL);
  }
  return result;
}

static long
read_process (void)
{
  char byte;
  struct iovec local = { &byte, 1 }, remote = { (void *) 8, 1 };
  long result = process_vm_readv (target, &local, 1, &remote, 1, 0);

  return result < 0 && errno == EFAULT ? 0 : result; /* it was allowed to look */
}

static long
open_process (void)
{
  char path[64];

  snprintf (path, sizeof path, "/proc/%d/mem", (int) target);
  return try_open (path, O_RDWR);
}

static long
open_self (void)
{
  return try_open ("/proc/self/mem", O_RDWR);
}

static long
signal_process (void)
{
  return kill (target, SIGCONT);
}

static long
mount_something (void)
{
  long result = mount ("none", home, "tmpfs", 0, NULL);

  if (result == 0)
    umount2 (home, MNT_DETACH);
  return result;
}

static long
open_tree_of_mounts (void)
{
  int fd = (int) syscall (SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */);

  if (fd >= 0)
    close (fd);
  return fd;
}

static long
leave_namespace (void)
{
  return unshare (CLONE_FS);
}

static long
run_written_memory (void)
{
  void *memory = mmap (NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);

  if (memory == MAP_FAILED)
    return -1;
  munmap (memory, 4096);
  return 0;
}

static long
make_memory_code (void)
{
  void *memory
      = mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (memory == MAP_FAILED)
    return 0;
  long result = mprotect (memory, 4096, PROT_READ | PROT_EXEC);
  munmap (memory, 4096);
  return result;
}

static long
have_capabilities (void)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct data[2];

  if (syscall (SYS_capget, &header, data) != 0)
    return -1;
  errno = EPERM;
  return (data[0].effective | data[0].permitted | data[1].effective | data[1].permitted) != 0 ? 0
                                                                                             : -1;
}

static const struct {
  const char *name;
  long (*run) (void);
} attacks[] = {
  { "read-shadow", read_shadow },
  { "read-beside", read_beside },
  { "list-root", list_root },
  { "write-archive", write_archive },
  { "write-victim", write_victim },
  { "make-file", make_file },
  { "make-link", make_link },
  { "truncate-victim", truncate_victim },
  { "chmod-victim", chmod_victim },
  { "rename-victim", rename_victim },
  { "delete-victim", delete_victim },
  { "start-program", start_program },
  { "start-process", start_process },
  { "connect-tcp", connect_tcp },
  { "connect-unix", connect_unix },
  { "send-packet", send_packet },
  { "trace-process", trace_process },
  { "read-process", read_process },
  { "open-process", open_process },
  { "open-self", open_self },
  { "signal-process", signal_process },
  { "mount", mount_something },
  { "open-tree", open_tree_of_mounts },
  { "unshare", leave_namespace },
  { "run-written-memory", run_written_memory },
  { "make-memory-code", make_memory_code },
  { "have-capabilities", have_capabilities },
};

static void
attack (const char *where)
{
  for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
    errno = 0;
    long result = attacks[i].run ();
    dprintf (out, "%s %s %s\n", where, attacks[i].name,
             result >= 0 ? "done" : strerrorname_np (errno));
  }
  dprintf (out, "%s end -\n", where);
}

/* --- where it comes in ------------------------------------------------------------------------ */

static int
is_wanted (int fd)
{
  const char *wanted = getenv ("HIJACK_FILE");
  char link[64], path[PATH_MAX];

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink (link, path, sizeof path - 1);
  if (n < 0 || wanted == NULL || out < 0)
    return 0;
  path[n] = '\0';
  return strcmp (path, wanted) == 0;
}

static void
come_in (int fd)
{
  int is_main = getpid () == gettid ();

  if (out < 0 || !is_wanted (fd)
      || atomic_flag_test_and_set (is_main ? &main_done : &thread_done))
    return;
  attack (is_main ? "main" : "thread");
}

#define HIJACK(name, offset)                                                                       \
  ssize_t name (int fd, void *buffer, size_t size, offset at);                                     \
  ssize_t name (int fd, void *buffer, size_t size, offset at)                                      \
  {                                                                                                \
    static ssize_t (*real) (int, void *, size_t, offset);                                          \
    if (real == NULL)                                                                              \
      real = (ssize_t (*) (int, void *, size_t, offset)) dlsym (RTLD_NEXT, #name);                 \
    come_in (fd);                                                                                  \
    return real (fd, buffer, size, at);                                                            \
  }

HIJACK (pread, off_t)
HIJACK (pread64, off64_t)
