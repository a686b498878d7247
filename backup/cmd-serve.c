/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmabackup serve: the service.
 */
#include "backup/commands.h"
#include "backup/names.h"
#include "backup/running.h"
#include "backup/serve.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/options.h"
#include "vma/error.h"

#include <poll.h>
#include <signal.h>

/* How long backups may take to leave everything as it was. */
#define GRACE_SECONDS 120

static void
wait_for_signal (void)
{
  struct pollfd wait = { g_cancellable_get_fd (tool_cancellable ()), POLLIN, 0 };

  while (!g_cancellable_is_cancelled (tool_cancellable ()))
    poll (&wait, 1, -1);
  g_cancellable_release_fd (tool_cancellable ());
}

static int
serve (GError **error)
{
  g_autofree char *program = g_file_read_link ("/proc/self/exe", error);
  g_autofree char *dir = program != NULL ? vma_run_dir (error) : NULL;

  if (dir == NULL)
    return TOOL_FAILED;
  VmaService *service = vma_service_new (program);
  g_autofree char *path = vma_run_socket (dir, VMA_SERVICE_ID);
  VmaControl *control = vma_control_start (path, vma_service_handle, service, error);
  if (control != NULL) {
    vma_service_set_control (service, control);
    wait_for_signal ();
    vma_service_cancel_all (service);
    while (vma_service_running (service) > 0)
      g_usleep (50 * 1000);
    vma_control_stop (control);
  }
  vma_service_free (service);
  return control != NULL ? TOOL_OK : TOOL_FAILED;
}

int
backup_serve (int argc, char **argv)
{
  const GOptionEntry entries[] = { { NULL, 0, 0, 0, NULL, NULL, NULL } };
  const ToolUsage usage = { "",
                            "Takes orders for backups on the socket serve.sock in the run-time\n"
                            "folder, until it is interrupted; each backup is a process of its own.",
                            entries, 0, 0 };
  int status;
  g_auto (GStrv) rest = tool_parse (&usage, argc, argv, &status);
  g_autoptr (GError) error = NULL;

  if (rest == NULL)
    return status;
  signal (SIGPIPE, SIG_IGN);
  tool_interrupt_set_grace (GRACE_SECONDS);
  tool_interrupt_start ();
  status = serve (&error);
  if (error != NULL)
    tool_error ("%s", error->message);
  return status;
}
