package doctor

import (
	"testing"
	"time"
)

// An engine that took long to answer may have read its clock at any moment of it.
func TestSkew(t *testing.T) {
	now := time.Now()
	for _, test := range []struct{ there, took, want time.Duration }{
		{0, 0, 0}, {time.Minute, 2 * time.Minute, 0}, {2 * time.Minute, 2 * time.Minute, 0},
		{-time.Second, time.Minute, -time.Second}, {time.Hour, time.Minute, 59 * time.Minute},
	} {
		if got := skew(now.Add(test.there), now, now.Add(test.took)); got != test.want {
			t.Errorf("%s, asked for %s: %s, want %s", test.there, test.took, got, test.want)
		}
	}
}
