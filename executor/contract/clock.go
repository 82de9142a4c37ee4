package contract

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is a point in time by a clock that nobody sets: time since the boot of
// this kernel, sleep included (CLOCK_BOOTTIME, clock_gettime(2)). An admin, or
// a time service, may move the other clock by days.
type Clock struct {
	Boot  string        `json:"boot"` // the kernel's boot_id
	Since time.Duration `json:"since"`
}

// ClockIn is a time from now; zero where it cannot be told.
func ClockIn(d time.Duration) Clock {
	boot, now, ok := uptime()
	if !ok {
		return Clock{}
	}
	return Clock{boot, now + d}
}

// String is how it stands on labels; empty where it could not be told.
func (c Clock) String() string {
	if c.Boot == "" {
		return ""
	}
	return c.Boot + ":" + strconv.FormatInt(int64(c.Since), 10)
}

// ParseClock is String's other end; of anything else the zero value, which is
// never Known.
func ParseClock(s string) Clock {
	boot, since, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(since, 10, 64)
	if err != nil || boot == "" {
		return Clock{}
	}
	return Clock{boot, time.Duration(n)}
}

// Known says whether the point can be compared with now: it is of this boot.
func (c Clock) Known() bool {
	boot, _, ok := uptime()
	return ok && c.Boot == boot
}

// Passed says whether the point, if it is Known, lies behind us.
func (c Clock) Passed() bool {
	boot, now, ok := uptime()
	return ok && c.Boot == boot && now > c.Since
}

func uptime() (boot string, since time.Duration, ok bool) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var t unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return "", 0, false
	}
	return strings.TrimSpace(string(b)), time.Duration(t.Nano()), true
}
