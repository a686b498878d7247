/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sandbox/sandbox.h"

#include "sandbox/filter.h"
#include "sandbox/landlock.h"
#include "sandbox/privileges.h"
#include "vma/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/prctl.h>
#include <time.h>

typedef struct {
  char *path;
  VmaSandboxAccess access;
} Rule;

struct VmaSandbox {
  GArray *rules;
  guint64 keep;
  gboolean network;
};

/*
 * What looking up a host's name and proving a certificate take.  Keys and passwords are in other
 * places.
 */
static const char *const network_files[] = {
  "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
  "/etc/services", "/etc/protocols", "/etc/ld.so.cache", "/etc/ssl/certs", "/etc/ssl/openssl.cnf",
  "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates", "/etc/gnutls",
  "/etc/crypto-policies", "/etc/pkcs11", "/run/systemd/resolve", "/run/NetworkManager",
  "/run/resolvconf", "/usr", "/lib", "/lib64", "/dev/urandom",
};

static void
rule_clear (gpointer data)
{
  g_free (((Rule *) data)->path);
}

VmaSandbox *
vma_sandbox_new (void)
{
  VmaSandbox *sandbox = g_new0 (VmaSandbox, 1);

  sandbox->rules = g_array_new (FALSE, FALSE, sizeof (Rule));
  g_array_set_clear_func (sandbox->rules, rule_clear);
  return sandbox;
}

void
vma_sandbox_free (VmaSandbox *sandbox)
{
  g_array_unref (sandbox->rules);
  g_free (sandbox);
}

void
vma_sandbox_allow (VmaSandbox *sandbox, const char *path, VmaSandboxAccess access)
{
  Rule rule = { g_strdup (path), access };

  g_array_append_val (sandbox->rules, rule);
  vma_sandbox_need (sandbox, path, access);
}

void
vma_sandbox_need (VmaSandbox *sandbox, const char *path, VmaSandboxAccess access)
{
  sandbox->keep |= vma_privileges_needed (path, (access & ~VMA_SANDBOX_READ) != 0);
}

void
vma_sandbox_keep_capability (VmaSandbox *sandbox, int number)
{
  sandbox->keep |= G_GUINT64_CONSTANT (1) << number;
}

void
vma_sandbox_allow_network (VmaSandbox *sandbox)
{
  if (sandbox->network)
    return;
  sandbox->network = TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS (network_files); i++) {
    Rule rule = { g_strdup (network_files[i]), VMA_SANDBOX_READ };
    g_array_append_val (sandbox->rules, rule);
  }
}

/* What libraries would fetch later, when it cannot be had any more. */
static void
load_beforehand (void)
{
  g_autofree char *text G_GNUC_UNUSED = g_strdup (g_strerror (EPERM)); /* catalogues, iconv */

  tzset ();                                         /* for the system log */
  dlopen ("libgcc_s.so.1", RTLD_NOW | RTLD_GLOBAL); /* the C library, when it cancels a thread */
}

static gboolean
enter_landlock (const VmaSandbox *sandbox, VmaSandboxReport *report, GError **error)
{
  g_autoptr (VmaLandlock) landlock = vma_landlock_new (sandbox->network);
  gboolean ok = TRUE;

  if (landlock == NULL && errno == 0)
    return TRUE;
  for (guint i = 0; ok && landlock != NULL && i < sandbox->rules->len; i++) {
    const Rule *rule = &g_array_index (sandbox->rules, Rule, i);
    ok = vma_landlock_allow (landlock, rule->path, rule->access);
    if (!ok) {
      vma_set_errno_error (error, errno, "sandbox: Landlock does not take %s", rule->path);
      return FALSE;
    }
  }
  if (landlock == NULL || !vma_landlock_enter (landlock)) {
    vma_set_errno_error (error, errno, "sandbox: Landlock fails");
    return FALSE;
  }
  report->landlock = vma_landlock_version (landlock);
  return TRUE;
}

gboolean
vma_sandbox_enter (VmaSandbox *sandbox, VmaSandboxReport *report, GError **error)
{
  *report = (VmaSandboxReport){ 0 };
  if (VMA_SANDBOX_OFF) {
    report->off = TRUE;
    report->reason = "this build measures or checks itself";
    return TRUE;
  }
  load_beforehand ();
  if (!vma_privileges_drop (sandbox->keep)) {
    vma_set_errno_error (error, errno, "sandbox: cannot give up privileges");
    return FALSE;
  }
  report->capabilities = vma_privileges_capabilities ();
  report->no_new_privileges = prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
  if (!enter_landlock (sandbox, report, error))
    return FALSE;
  if (vma_filter_is_available ()) {
    if (!vma_filter_enter (sandbox->network)) {
      vma_set_errno_error (error, errno, "sandbox: the filter of system calls fails");
      return FALSE;
    }
    report->seccomp = TRUE;
  }
  return TRUE;
}

const char *
vma_sandbox_missing (const VmaSandboxReport *report)
{
  if (report->off)
    return report->reason;
  if (report->landlock == 0)
    return report->seccomp ? "the kernel has no Landlock"
                           : "the kernel has no Landlock, and there is no seccomp";
  return report->seccomp ? NULL : "no seccomp";
}
