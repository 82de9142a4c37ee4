package doctor

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func user() Check {
	if os.Geteuid() == 0 {
		return ok("user", "root")
	}
	return warn("user", "run gitlab-runner as root, as its package does", "uid %d: rooms are reached by the slower exec transport", os.Geteuid())
}

// machines are the ELF architectures of what engines call theirs.
var machines = map[string]elf.Machine{
	"x86_64": elf.EM_X86_64, "amd64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64, "arm64": elf.EM_AARCH64,
	"armv7l": elf.EM_ARM, "s390x": elf.EM_S390, "ppc64le": elf.EM_PPC64, "riscv64": elf.EM_RISCV,
}

// initBinary checks what becomes PID 1 of every container. It must not need
// a loader, since an image may have none.
func initBinary(ctx context.Context, opts Options, arch string) Check {
	const name = "init"
	const remedy = "install cleanroom-init beside cleanroom, or set engine.init_path"
	info, err := os.Stat(opts.InitPath)
	if err != nil {
		return fail(name, remedy, "%v", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return fail(name, remedy, "%s is no plain file", opts.InitPath)
	case info.Mode().Perm()&0o111 != 0o111:
		return fail(name, "chmod 0755 "+opts.InitPath, "%s is not executable by all (mode %#o)", opts.InitPath, info.Mode().Perm())
	case info.Mode().Perm()&0o022 != 0, owner(info) != 0 && owner(info) != os.Geteuid():
		return fail(name, "chown root and chmod 0755 "+opts.InitPath, "%s may be changed by others", opts.InitPath)
	}
	f, err := elf.Open(opts.InitPath)
	if err != nil {
		return fail(name, remedy, "%s is no ELF binary", opts.InitPath)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fail(name, "build it with CGO_ENABLED=0", "%s is not static", opts.InitPath)
		}
	}
	if want, known := machines[arch]; known && f.Machine != want {
		return fail(name, "install the one for "+arch, "%s is for %s, the engine is %s", opts.InitPath, f.Machine, arch)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, opts.InitPath, "version").Output()
	version := strings.TrimSpace(string(out))
	switch {
	case err != nil:
		return fail(name, remedy, "%s does not run: %v", opts.InitPath, err)
	case opts.Version != "" && version != opts.Version:
		return fail(name, "install both of the same version", "%s is %q, cleanroom is %q", opts.InitPath, version, opts.Version)
	}
	return ok(name, "%s %s, static", opts.InitPath, version)
}

// inMemory tells whether a path, or the nearest folder above it that is
// there, is on a file system that never reaches a disk (but see swap).
func inMemory(path string) (there string, memory bool, err error) {
	for {
		var s unix.Statfs_t
		err := unix.Statfs(path, &s)
		if err == nil {
			return path, s.Type == unix.TMPFS_MAGIC || s.Type == unix.RAMFS_MAGIC, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path, false, err
		}
		path = filepath.Dir(path)
	}
}

func stateDir(dir string) Check {
	const name = "state folder"
	there, memory, err := inMemory(dir)
	if err != nil {
		return fail(name, "mend it, or set state_dir to another folder", "%s: %v", there, err)
	}
	const onDisk = "mount a tmpfs on it, or set state_dir to a folder of one, like /dev/shm/cleanroom"
	if there != dir {
		parent, err := os.Stat(there)
		switch {
		case err != nil || !parent.IsDir():
			return fail(name, "set state_dir to another folder", "%s cannot be made: %s is no folder", dir, there)
		case unix.Access(there, unix.W_OK|unix.X_OK) != nil:
			return fail(name, "make it, owned by the user of gitlab-runner, mode 0700", "%s is not there and cannot be made", dir)
		}
		if err := tryDir(there, dir); err != nil {
			return fail(name, "set state_dir to another folder, like /dev/shm/cleanroom", "%s cannot be made: %v", dir, err)
		}
		if !memory {
			return warn(name, onDisk, "%s would be on a disk", dir)
		}
		return ok(name, "%s will be made, in memory", dir)
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fail(name, "set state_dir to another folder", "%v", err)
	case !info.IsDir():
		return fail(name, "remove it, or set state_dir to another folder", "%s is no folder", dir)
	case owner(info) != os.Geteuid():
		return fail(name, fmt.Sprintf("chown %d %s", os.Geteuid(), dir), "%s belongs to uid %d", dir, owner(info))
	case info.Mode().Perm() != 0o700:
		return fail(name, "chmod 0700 "+dir, "%s has mode %#o", dir, info.Mode().Perm())
	}
	if err := tryFile(dir); err != nil {
		return fail(name, "mount it writable, or set state_dir to another folder", "nothing can be written there: %v", err)
	}
	if !memory {
		return warn(name, onDisk, "%s is on a disk", dir)
	}
	return ok(name, "%s, in memory, mode 0700", dir)
}

// tryDir makes a folder below one that is there, and removes what it made.
func tryDir(there, dir string) error {
	err := os.MkdirAll(dir, 0o700)
	for made := dir; made != there && made != filepath.Dir(made); made = filepath.Dir(made) {
		_ = os.Remove(made) // only if nobody has used it meanwhile
	}
	return err
}

func tryFile(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	defer f.Close()
	return os.Remove(f.Name())
}

// logFile opens the log as the stages do: without it they refuse every job.
func logFile(path string) Check {
	const name = "log file"
	_, err := os.Stat(path)
	made := errors.Is(err, fs.ErrNotExist)
	// A pipe that nobody reads would keep us, and the stages, waiting.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return fail(name, "make its folder, or set log.file to a file that the user of gitlab-runner may write", "%v", err)
	}
	defer f.Close()
	if !made {
		return ok(name, "%s", path)
	}
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			_ = os.Remove(real)
		}
	}
	return ok(name, "%s will be made", path)
}

// metricsFile tries the folder: the file itself is made anew in it each time.
func metricsFile(path string) Check {
	const name = "metrics file"
	if err := tryFile(filepath.Dir(path)); err != nil {
		return fail(name, "make its folder, or set metrics.file to one where the user of gitlab-runner may write", "%v", err)
	}
	return ok(name, "%s", path)
}

// reversePath looks at the filter that keeps packets with a foreign sender
// out. A strict room has no route, but its bridge is an interface of the host.
func reversePath(conf string) Check {
	const name = "rp_filter"
	const remedy = "sysctl net.ipv4.conf.all.rp_filter=1"
	for _, which := range []string{"all", "default"} {
		text, err := os.ReadFile(filepath.Join(conf, which, name))
		if err != nil {
			return warn(name, "look for yourself: sysctl net.ipv4.conf.all.rp_filter", "%v", err)
		}
		if strings.TrimSpace(string(text)) != "0" {
			return ok(name, "net.ipv4.conf.%s.rp_filter is on", which)
		}
	}
	return warn(name, remedy, "off: a strict room's job can send broadcasts to services of this host")
}

// runnerTmp checks where the runner itself leaves scripts and responses, with
// variables and tokens in clear, in folders of mode 0700.
func runnerTmp(dir string) Check {
	const name = "runner's TMPDIR"
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return fail(name, "make it, owned by the user of gitlab-runner, mode 0700", "%s is no folder", dir)
	}
	mode := info.Mode()
	if mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0 {
		return fail(name, "chmod 0700 "+dir, "%s can be changed by others (mode %#o)", dir, mode.Perm())
	}
	const remedy = "set TMPDIR, in gitlab-runner's service, to a folder of mode 0700 on a tmpfs"
	_, memory, err := inMemory(dir)
	switch {
	case err != nil:
		return fail(name, remedy, "%s: %v", dir, err)
	case !memory:
		return warn(name, remedy, "%s is on a disk: the runner's scripts hold variables and tokens in clear", dir)
	case mode.Perm()&0o077 != 0:
		return warn(name, remedy, "%s is open to other users (mode %#o)", dir, mode.Perm())
	}
	return ok(name, "%s, in memory, mode %#o", dir, mode.Perm())
}

// swap says whether memory can reach a disk in clear.
func swap(swaps, sysBlock string) Check {
	const name = "swap"
	text, err := os.ReadFile(swaps)
	if err != nil {
		return warn(name, "look for yourself: swapon --show", "%v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 2 { // the first is a heading
		return ok(name, "none")
	}
	var clear []string
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) > 0 && !hiddenSwap(fields[0], sysBlock) {
			clear = append(clear, fields[0])
		}
	}
	if len(clear) > 0 {
		return warn(name, "turn it off (swapoff), or encrypt it (crypttab)", "%s is not encrypted: secrets in memory may reach the disk", strings.Join(clear, ", "))
	}
	return ok(name, "encrypted or in memory")
}

// hiddenSwap accepts dm-crypt devices, and zram without a disk behind it.
func hiddenSwap(device, sysBlock string) bool {
	if real, err := filepath.EvalSymlinks(device); err == nil {
		device = real
	}
	block := filepath.Join(sysBlock, filepath.Base(device))
	if uuid, err := os.ReadFile(filepath.Join(block, "dm", "uuid")); err == nil {
		return strings.HasPrefix(string(uuid), "CRYPT-")
	}
	if strings.HasPrefix(filepath.Base(device), "zram") {
		backing, err := os.ReadFile(filepath.Join(block, "backing_dev"))
		return err != nil || strings.TrimSpace(string(backing)) == "none"
	}
	return false
}

// synced asks the kernel whether a time service keeps the clock.
func synced() Check {
	const name = "time service"
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return warn(name, "look for yourself: timedatectl", "%v", err)
	}
	if t.Status&unix.STA_UNSYNC != 0 {
		return warn(name, "run chrony or systemd-timesyncd: tokens and leases expire by this clock", "the kernel's clock is not kept by one")
	}
	return ok(name, "keeps the clock")
}

// owner of a file.
func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
