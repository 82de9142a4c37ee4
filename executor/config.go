package executor

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"cleanroom/executor/contract"
	"cleanroom/sandbox/fault"
)

// ConfigStage names the room, which may be one that waits in the pool, makes its
// key, and tells the runner both and where the builds are. The key stays in the
// runner's memory: it comes back to us in the environment of each later call.
func (x *Executor) ConfigStage() error {
	job, err := x.Call.Job()
	if err != nil {
		return err
	}
	var key [32]byte
	rand.Read(key[:])
	if err := fault.At("config.named"); err != nil {
		return err
	}
	name := x.claim(job)
	if name == "" {
		name = roomName(x.Call.Variables["CI_RUNNER_SHORT_TOKEN"], job.ID)
	}
	if err := contract.WriteConfig(x.Out, contract.ConfigOutput{
		BuildsDir: x.Config.Room.BuildsDir,
		CacheDir:  x.Config.Room.CacheDir,
		Version:   x.Version,
		Room:      name,
		Key:       hex.EncodeToString(key[:]),
		Env:       x.pins(),
	}); err != nil {
		return err
	}
	return fault.At("config.answered")
}

// pins keep a job's later stages where its room is, whatever becomes of the
// configuration file meanwhile: they are overrides that config.Load reads.
func (x *Executor) pins() map[string]string {
	pins := map[string]string{"CLEANROOM_STATE_DIR": x.Config.StateDir, "CLEANROOM_DATA_DIR": x.Config.DataDir}
	if host := x.Config.Engine.Host; host != "" {
		pins["CLEANROOM_ENGINE_HOST"] = host
	}
	return pins
}

// roomName is unique by its random end; the rest is for people. The runner's
// name is a job variable and so anyone's to choose: it only decorates.
func roomName(runner string, job int64) string {
	var suffix [5]byte
	rand.Read(suffix[:])
	keep := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}
	runner = strings.Map(keep, strings.ToLower(runner))
	runner = runner[:min(len(runner), 9)]
	if runner == "" {
		runner = "runner"
	}
	return "cr-" + runner + "-" + strconv.FormatInt(job, 10) + "-" + hex.EncodeToString(suffix[:])
}

// named reads back the name that ConfigStage put into job_env.
func (x *Executor) named() (string, error) {
	if name := x.Call.Room; validRoom(name) {
		return name, nil
	}
	return "", fmt.Errorf("%s=%q names no room: is config_exec set to `cleanroom config`? see `cleanroom register --help`", contract.RoomVariable, x.Call.Room)
}

// room is named, and its key.
func (x *Executor) room() (name string, key [32]byte, err error) {
	if name, err = x.named(); err != nil {
		return "", key, err
	}
	text := []byte(x.Call.Key)
	if len(text) != hex.EncodedLen(len(key)) {
		text = nil // Decode would write beyond the key
	}
	if n, err := hex.Decode(key[:], text); err != nil || n != len(key) {
		return "", key, fmt.Errorf("%s holds no key: is config_exec set to `cleanroom config`? see `cleanroom register --help`", contract.KeyVariable)
	}
	return name, key, nil
}

// notOurs is a journal, or an admin's word, that would lead us elsewhere.
func notOurs(dataDir, room string) error {
	return fmt.Errorf("%.100q is no room's name: if %s has a journal of it, look at that and remove it", room, filepath.Join(dataDir, "leases"))
}

func validRoom(s string) bool {
	return strings.HasPrefix(s, "cr-") && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
