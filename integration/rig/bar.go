package rig

import (
	"fmt"
	"os"
	"strings"
)

// Bar shows how far it is: over itself on a terminal, else a line a tenth.
func Bar(out *os.File, done, n int, what string) {
	const width = 40
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	line := fmt.Sprintf("[%-*s] %d of %d %s", width, strings.Repeat("#", done*width/n), done, n, what)
	switch {
	case terminal && done < n:
		fmt.Fprintf(out, "\r%s", line)
	case terminal:
		fmt.Fprintf(out, "\r%s\n", line)
	case done == n || done*10/n > (done-1)*10/n:
		fmt.Fprintln(out, line)
	}
}
