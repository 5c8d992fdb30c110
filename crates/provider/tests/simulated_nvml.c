/* A SIMULATED library of NVIDIA's driver (NVML), for tests on machines that have no GPU. No real library has anything of it.
 *
 * It answers what crates/provider/src/gpus/nvml.rs asks, with the names and layouts of nvml.h. Tests compile it, and change what it
 * says with the macros below:
 *   COUNT       how many devices it says there are; from the third on they are like the first
 *   NAME, UUID  of the first device
 *   MEMORY      of the first device, in bytes
 *   INIT        what nvmlInit_v2 returns
 *   LOST        the device that has fallen off the bus
 *   CALLS       a file that gets an i for each beginning, an s for each end, and an X where two overlap
 *   HANGS_UNTIL nvmlInit_v2 returns only when this file exists
 *   OLD         it lacks what drivers before 510 lack
 *   BROKEN      it lacks nvmlShutdown, which every driver has
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef COUNT
#define COUNT 2
#endif
#ifndef NAME
#define NAME "NVIDIA H100 80GB HBM3"
#endif
#ifndef UUID
#define UUID "GPU-3e7a9b1c-0d2f-4a5b-8c6d-7e8f9a0b1c2d"
#endif
#ifndef MEMORY
/* An odd rest, as some models have it. */
#define MEMORY ((81559ULL << 20) + 786432)
#endif
#ifndef INIT
#define INIT SUCCESS
#endif
#ifndef LOST
#define LOST 1000000
#endif

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15, VERSION_MISMATCH = 25 };

typedef struct { const char *name, *uuid; unsigned long long memory; unsigned mig; } device;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;

static device devices[2] = {
    { NAME, UUID, MEMORY, 0 },
    { "NVIDIA A100-SXM4-40GB", "GPU-00000000-0000-0000-0000-000000000001", 40960ULL << 20, 1 },
};

static void note(const char *what) {
#ifdef CALLS
    int file = open(CALLS, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file >= 0 && write(file, what, 1) == 1) close(file);
#else
    (void)what;
#endif
}

static int text(const char *from, char *to, unsigned length) {
    if (strlen(from) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return SUCCESS;
}

static const unsigned there = COUNT;
static int inside;

int nvmlInit_v2(void) {
    note("i");
    if (__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST) != 0) note("X");
#ifdef HANGS_UNTIL
    while (access(HANGS_UNTIL, F_OK) != 0) usleep(1000);
#endif
    if (INIT != SUCCESS) __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
    return INIT;
}

#ifndef BROKEN
int nvmlShutdown(void) {
    __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
    note("s");
    return SUCCESS;
}
#endif

int nvmlSystemGetDriverVersion(char *version, unsigned length) { return text("535.104.05", version, length); }

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 12020;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = there;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) {
    if (index >= there) return INVALID_ARGUMENT;
    if (index == LOST) return GPU_IS_LOST;
    *found = &devices[index == 1];
    return SUCCESS;
}

int nvmlDeviceGetUUID(device *of, char *uuid, unsigned length) { return text(of->uuid, uuid, length); }
int nvmlDeviceGetName(device *of, char *name, unsigned length) { return text(of->name, name, length); }

int nvmlDeviceGetMigMode(device *of, unsigned *current, unsigned *pending) {
    *current = *pending = of->mig;
    return SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(device *of, memory_v2 *memory) {
    if (memory->version != (sizeof(memory_v2) | 2 << 24)) return VERSION_MISMATCH;
    memory->total = of->memory;
    memory->used = 1ULL << 30;
    memory->reserved = 0;
    memory->free = of->memory - memory->used;
    return SUCCESS;
}
#endif

/* A device that is cut into parts does not say how busy it is, and this one has no sensor. */
int nvmlDeviceGetUtilizationRates(device *of, utilization *rates) {
    if (of->mig) return NOT_SUPPORTED;
    rates->gpu = 37;
    rates->memory = 12;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device *of, int sensor, unsigned *celsius) {
    if (of->mig || sensor != 0) return NOT_SUPPORTED;
    *celsius = 54;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(device *of, unsigned *milliwatts) {
    *milliwatts = of->mig ? 61499 : 312500;
    return SUCCESS;
}
