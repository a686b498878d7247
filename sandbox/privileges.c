/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sandbox/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (G_GUINT64_CONSTANT (1) << (capability))
#define OF_FILES (BIT (CAP_DAC_OVERRIDE) | BIT (CAP_DAC_READ_SEARCH))

typedef struct {
  guint64 effective, permitted, inheritable;
} Sets;

static gboolean
get (Sets *sets)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct data[2] = { 0 };

  if (syscall (SYS_capget, &header, data) != 0)
    return FALSE;
  *sets = (Sets){
    .effective = data[0].effective | (guint64) data[1].effective << 32,
    .permitted = data[0].permitted | (guint64) data[1].permitted << 32,
    .inheritable = data[0].inheritable | (guint64) data[1].inheritable << 32,
  };
  return TRUE;
}

static gboolean
set (const Sets *sets)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct data[2];

  for (guint i = 0; i < 2; i++) {
    data[i].effective = (guint32) (sets->effective >> 32 * i);
    data[i].permitted = (guint32) (sets->permitted >> 32 * i);
    data[i].inheritable = (guint32) (sets->inheritable >> 32 * i);
  }
  return syscall (SYS_capset, &header, data) == 0;
}

guint64
vma_privileges_capabilities (void)
{
  Sets sets;

  return get (&sets) ? sets.effective : 0;
}

guint64
vma_privileges_needed (const char *path, gboolean writing)
{
  struct stat st;
  Sets with, without;
  int mode = writing ? R_OK | W_OK : R_OK;

  if (!get (&with) || (with.effective & OF_FILES) == 0 || stat (path, &st) != 0)
    return 0;
  if (S_ISDIR (st.st_mode))
    mode |= X_OK;
  without = with;
  without.effective &= ~OF_FILES;
  if (!set (&without))
    return 0;
  gboolean needed = faccessat (AT_FDCWD, path, mode, AT_EACCESS) != 0 && errno == EACCES;
  if (!set (&with) || !needed)
    return 0;
  return with.effective & BIT (writing ? CAP_DAC_OVERRIDE : CAP_DAC_READ_SEARCH);
}

gboolean
vma_privileges_drop (guint64 keep)
{
  Sets sets;

  if (!get (&sets))
    return FALSE;
  if ((sets.effective & BIT (CAP_SETGID)) != 0 && setgroups (0, NULL) != 0)
    return FALSE;
  /* Nothing that we might execute could get them back. */
  if ((sets.effective & BIT (CAP_SETPCAP)) != 0)
    for (int i = 0; i < 64 && prctl (PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
      prctl (PR_CAPBSET_DROP, i, 0, 0, 0);
  prctl (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  sets = (Sets){ .effective = sets.effective & keep, .permitted = sets.permitted & keep };
  return set (&sets);
}
