package provenance

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	if _, err := Kept(dir, "room"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	one, two := []byte("{\"a\":1}\n"), []byte("{\"b\":2}\n")
	if err := Keep(dir, "room", one); err != nil {
		t.Fatal(err)
	}
	// What is torn costs that alone.
	if err := os.WriteFile(pathOf(dir, "room"), append(bytes.Clone(one), `{"torn`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Keep(dir, "room", two); err != nil {
		t.Fatal(err)
	}
	if lines, err := Kept(dir, "room"); err != nil || len(lines) != 2 || !bytes.Equal(lines[0], one) || !bytes.Equal(lines[1], two) {
		t.Errorf("%q, %v", lines, err)
	}
	if err := Keep(dir, "../../room", one); err != nil {
		t.Fatal(err)
	}
	if rooms, err := Rooms(dir); err != nil || len(rooms) != 1 || rooms[0] != "room" {
		t.Errorf("%q, %v", rooms, err)
	}
	info, err := os.Stat(pathOf(dir, "room"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
