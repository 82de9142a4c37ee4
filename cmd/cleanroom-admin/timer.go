package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const timerName = "cleanroom-reap"

// timerCommand writes the systemd units that call reap.
func timerCommand(g *globals) *cobra.Command {
	var dir string
	var every time.Duration
	c := &cobra.Command{
		Use: "install-timer", Short: "Have systemd end rooms whose job is over, every few minutes", Args: cobra.NoArgs,
		Long: "Write a systemd service that calls `cleanroom reap` and a timer that starts it, and enable the timer where\n" +
			"systemd runs. What a prepare finds it ends too; the timer is for hosts on which no next job comes.",
		Example: "  cleanroom install-timer\n  cleanroom install-timer --dir . --every 5m",
		RunE: func(c *cobra.Command, _ []string) error {
			if every < time.Second {
				return fmt.Errorf("--every is %s: choose a second or more, like 1m", every)
			}
			config, err := absolute(g.path())
			if err != nil {
				return err
			}
			for name, text := range units(g.front, config, every) {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					return fmt.Errorf("%w: run as root, or choose another --dir, of a folder that is there", err)
				}
				fmt.Fprintln(c.OutOrStdout(), "wrote", path)
			}
			return enable(c, dir)
		},
	}
	c.Flags().StringVar(&dir, "dir", "/etc/systemd/system", "folder of the units")
	c.Flags().DurationVar(&every, "every", time.Minute, "time between two passes")
	return c
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// units are the service and its timer. The service waits for no other: reap
// says in its exit code what it could not do, and tries again next time.
func units(self, config string, every time.Duration) map[string]string {
	call := quoteUnit(self) + " reap"
	if config != "" {
		call += " --config " + quoteUnit(config)
	}
	return map[string]string{
		timerName + ".service": "[Unit]\nDescription=End cleanroom's rooms whose job is over\nDocumentation=man:systemd.service(5)\nAfter=docker.service\n\n" +
			"[Service]\nType=oneshot\nExecStart=" + call + "\nLimitCORE=0\nUMask=0077\n",
		timerName + ".timer": "[Unit]\nDescription=End cleanroom's rooms whose job is over, every " + every.String() + "\n\n" +
			"[Timer]\nOnBootSec=1min\nOnUnitInactiveSec=" + fmt.Sprint(int(every.Seconds())) + "s\n\n[Install]\nWantedBy=timers.target\n",
	}
}

// quoteUnit quotes a word of ExecStart (systemd.service(5), "Command lines").
func quoteUnit(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$", "%", "%%").Replace(word) + `"`
}

// enable starts the timer where systemd runs and reads that folder.
func enable(c *cobra.Command, dir string) error {
	const commands = "systemctl daemon-reload && systemctl enable --now " + timerName + ".timer"
	if _, err := os.Stat("/run/systemd/system"); err != nil || !strings.HasSuffix(filepath.Clean(dir), "/systemd/system") {
		fmt.Fprintln(c.OutOrStdout(), "systemd does not run here, or reads another folder; where it does:", commands)
		return nil
	}
	out, err := exec.CommandContext(c.Context(), "sh", "-c", commands).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", commands, err, strings.TrimSpace(string(out)))
	}
	fmt.Fprintln(c.OutOrStdout(), "enabled", timerName+".timer")
	return nil
}
