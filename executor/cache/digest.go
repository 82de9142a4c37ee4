package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// digester reads content and holds it against its header.
type digester struct {
	r    io.Reader
	want Header
	sum  hash.Hash
	n    int64
}

func newDigester(r io.Reader, want Header) *digester {
	return &digester{r: r, want: want, sum: sha256.New()}
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.sum.Write(p[:n])
	d.n += int64(n)
	if err == io.EOF && (d.n != d.want.Size || hex.EncodeToString(d.sum.Sum(nil)) != d.want.SHA256) {
		err = fmt.Errorf("%w: it is not what was kept", ErrBroken)
	}
	return n, err
}

// byProject orders entries as people look for them.
func byProject(a, b Info) int {
	return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.dir(), b.dir()), cmp.Compare(a.Key, b.Key), cmp.Compare(a.file(), b.file()))
}
