/* What a hostile tenant tries from inside its container, one way after another.
 *
 * attacks kernel      calls that would reach the host; one line each: the call and how it was refused
 * attacks files       opens files in 24 more processes as well, and says how many the first one got
 * attacks identity    who it is, after trying to be root
 * attacks processes   breeds for four seconds, then the first one says how many there were and ends with code 3
 *
 * Nothing here harms a machine on which a call succeeds: each has arguments that change nothing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *what, long result) {
    const char *how = result < 0 ? strerrorname_np(errno) : "SUCCEEDED";
    printf("%s %s\n", what, how ? how : "?");
}

static void kernel(void) {
    /* A module that is none; nothing would be loaded. */
    tell("init_module", syscall(SYS_init_module, "", 0UL, ""));
    tell("finit_module", syscall(SYS_finit_module, 0, "", 0));
    tell("delete_module", syscall(SYS_delete_module, "no-such-module", O_NONBLOCK));
    tell("mount", mount("none", "/tmp", "tmpfs", 0, "size=4k"));
    tell("mount-proc", mount("none", "/tmp", "proc", 0, ""));
    tell("umount", umount2("/proc", MNT_DETACH));
    tell("open_tree", syscall(428, AT_FDCWD, "/", 0x1 /* OPEN_TREE_CLONE */));
    tell("fsopen", syscall(430, "tmpfs", 0));
    tell("pivot_root", syscall(SYS_pivot_root, ".", "."));
    tell("chroot", chroot("/"));
    tell("unshare-user", unshare(CLONE_NEWUSER));
    tell("unshare-mount", unshare(CLONE_NEWNS));
    tell("unshare-net", unshare(CLONE_NEWNET));
    int own = open("/proc/1/ns/net", O_RDONLY);
    tell("setns", setns(own, CLONE_NEWNET));
    /* "Shocker": a file of the host by its handle instead of its path; inode 2 is the root of a file system. */
    struct file_handle *handle = calloc(1, sizeof *handle + 8);
    handle->handle_bytes = 8;
    handle->handle_type = 1;
    handle->f_handle[0] = 2;
    tell("open_by_handle_at", open_by_handle_at(AT_FDCWD, handle, O_RDONLY));
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    tell("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_CPU_CLOCK};
    tell("perf_event_open", syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
    /* Whether what the group of this process may not do could be done by the kernel in its name. */
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("kexec_load", syscall(SYS_kexec_load, 0UL, 0UL, NULL, 1UL << 31));
    tell("add_key", syscall(SYS_add_key, "user", "pasture", "x", 1UL, -3));
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    tell("swapon", syscall(SYS_swapon, "/nowhere", 0));
    tell("acct", syscall(SYS_acct, "/nowhere"));
    tell("syslog", syscall(SYS_syslog, 3, NULL, 0));
    tell("sethostname", sethostname("h", 1));
    tell("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0x89abcdef /* only changes what ctrl-alt-del does */, NULL));
    struct timeval now;
    gettimeofday(&now, NULL);
    tell("settimeofday", settimeofday(&now, NULL));
    tell("nice", setpriority(PRIO_PROCESS, 0, -5));
    struct sched_param first = {.sched_priority = 1};
    tell("real-time", sched_setscheduler(0, SCHED_FIFO, &first));
    struct rlimit more = {1 << 30, 1 << 30};
    tell("setrlimit", setrlimit(RLIMIT_NOFILE, &more));
    tell("packet-socket", socket(AF_PACKET, SOCK_RAW, 0));
    tell("raw-socket", socket(AF_INET, SOCK_RAW, 1));
    tell("mknod", mknod("/tmp/disk", S_IFBLK | 0600, 254 << 8));
    tell("ptrace-init", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    tell("iopl", syscall(SYS_iopl, 3));
    /* Opened only, never written to. */
    const char *places[] = {"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches",
                            "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/proc/kcore", "/dev/mem"};
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
        tell(places[i], open(places[i], i == 5 ? O_RDONLY : O_WRONLY));
    /* To be the last one that the kernel kills. */
    tell("oom_score_adj", write(open("/proc/self/oom_score_adj", O_WRONLY), "-1000", 5));
}

static long open_many(void) {
    long opened = 0;
    while (open("/dev/null", O_RDONLY) >= 0)
        opened++;
    return opened;
}

static void files(void) {
    long opened = open_many();
    printf("first %ld %s\n", opened, strerrorname_np(errno));
    fflush(stdout);
    /* Each child has its own table; all hold on for a while. Not all processes that there may be: whoever asks whether this job is
     * alive needs some. */
    int children = 0;
    for (; children < 24; children++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            for (int fd = 3; fd < 1 << 20; fd++)
                close(fd);
            open_many();
            sleep(5);
            _exit(0);
        }
    }
    printf("children %d\n", children);
    fflush(stdout);
    while (wait(NULL) > 0)
        ;
}

static int count_processes(void) {
    int count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));)
        count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    if (proc)
        closedir(proc);
    return count;
}

static int processes(void) {
    time_t end = time(NULL) + 4;
    pid_t first = getpid();
    int most = 0, refused = 0;
    while (time(NULL) < end) {
        /* Whoever was refused breeds no more: names are counted one by one, and none may take another's place meanwhile. */
        if (!refused && fork() < 0)
            refused = errno;
        if (getpid() != first && refused)
            usleep(10000);
        if (getpid() == first) {
            int now = count_processes();
            most = now > most ? now : most;
        }
    }
    if (getpid() != first)
        return 0;
    printf("most %d %s\n", most, refused ? strerrorname_np(refused) : "nothing");
    return 3;
}

static void identity(void) {
    printf("uid %d euid %d\n", getuid(), geteuid());
    tell("setuid", setuid(0));
    tell("secret", open("/root/secret", O_RDONLY));
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "kernel"))
        kernel();
    else if (!strcmp(what, "files"))
        files();
    else if (!strcmp(what, "identity"))
        identity();
    else if (!strcmp(what, "processes"))
        return processes();
    else
        return 2;
    return 0;
}
