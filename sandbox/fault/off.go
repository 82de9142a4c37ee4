//go:build !faults

package fault

import "time"

// At is where a test may have something happen.
func At(string) error { return nil }

// Now is the time by which rooms are judged.
func Now() time.Time { return time.Now() }
