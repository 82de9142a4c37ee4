package forward

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cleanroom/config"
)

// rsyslog is a real one, from Debian, that takes messages in every way. What
// it has read it has written before it closes a connection (its queue is
// "Direct"), a line of JSON each.
type rsyslog struct {
	dir, file string
	tcp, tls  string // host:port
	udp, unix string
	cmd       *exec.Cmd
}

const rsyslogConfig = `
global(workDirectory=%[1]q maxMessageSize="64k"
  defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
main_queue(queue.type="Direct")
module(load="imtcp")
module(load="imudp")
module(load="imuxsock" SysSock.Use="off")
template(name="line" type="string" string="{%%syslogfacility:::jsonf:facility%%,%%syslogseverity:::jsonf:severity%%,%%timereported:::date-rfc3339,jsonf:time%%,%%hostname:::jsonf:host%%,%%app-name:::jsonf:app%%,%%msgid:::jsonf:msgid%%,%%structured-data:::jsonf:sd%%,%%msg:::jsonf:msg%%}\n")
ruleset(name="keep" queue.type="Direct") { action(type="omfile" file="%[1]s/lines" template="line" asyncWriting="off" flushOnTXEnd="on") }
input(type="imtcp" address="127.0.0.1" port="%[2]s" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="%[3]s" ruleset="keep" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imudp" address="127.0.0.1" port="%[2]s" ruleset="keep")
input(type="imuxsock" socket="%[1]s/socket" useSpecialParser="off" parseHostname="on" rateLimit.interval="0" ruleset="keep")
`

func startRsyslog(t *testing.T) *rsyslog {
	t.Helper()
	r := &rsyslog{dir: t.TempDir()}
	r.file, r.unix = filepath.Join(r.dir, "lines"), filepath.Join(r.dir, "socket")
	r.tcp, r.tls = freePort(t), freePort(t)
	r.udp = r.tcp
	certificates(t, r.dir)
	_, plain, _ := net.SplitHostPort(r.tcp)
	_, secured, _ := net.SplitHostPort(r.tls)
	if err := os.WriteFile(filepath.Join(r.dir, "conf"), fmt.Appendf(nil, rsyslogConfig, r.dir, plain, secured), 0o600); err != nil {
		t.Fatal(err)
	}
	r.up(t)
	t.Cleanup(func() { r.down(syscall.SIGKILL) })
	return r
}

// up starts it, again after down, and waits until it listens.
func (r *rsyslog) up(t *testing.T) {
	t.Helper()
	os.Remove(r.unix)
	log, err := os.Create(filepath.Join(r.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.cmd = exec.Command("rsyslogd", "-n", "-f", filepath.Join(r.dir, "conf"), "-i", filepath.Join(r.dir, "pid"))
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("%v: run `make test`, which installs it", err)
	}
	until(t, "rsyslog listens", func() bool {
		for _, address := range []string{r.tcp, r.tls} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			conn.Close()
		}
		_, err := os.Stat(r.unix)
		return err == nil
	}, func() string { words, _ := os.ReadFile(log.Name()); return string(words) })
}

func (r *rsyslog) down(s syscall.Signal) {
	r.cmd.Process.Signal(s)
	r.cmd.Wait()
}

func (r *rsyslog) got(t *testing.T) (all []got) {
	for _, l := range lines[struct{ Facility, Severity, Host, App, Msgid, SD, Msg string }](t, r.file) {
		m, err := parseStructure(l.SD)
		if err != nil {
			t.Fatal(err)
		}
		if l.Facility != "13" || l.App != "cleanroom" || l.Msgid != "audit" || l.Severity != map[bool]string{true: "6", false: "3"}[m["notice"] == ""] {
			t.Fatalf("%+v", l)
		}
		index, _ := strconv.ParseInt(m["index"], 10, 64)
		all = append(all, got{index, m["leaf"], m["notice"], l.Msg})
	}
	return all
}

func until(t *testing.T, what string, done func() bool, words ...func() string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) { // the bound is against hanging
		if time.Now().After(end) {
			for _, w := range words {
				t.Log(w())
			}
			t.Fatalf("waited for a minute: %s", what)
		}
	}
}

// freePort is below those that the kernel hands out, so that nobody gets it
// while who listens there is down.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
}

// certificates makes an authority (ca.pem) and what it signed for 127.0.0.1
// (cert.pem, key.pem), good for a server and a client.
func certificates(t *testing.T, dir string) {
	t.Helper()
	make := func(name string, c, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
			if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return key
	}
	ca := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key := make("ca", ca, ca, nil)
	leaf := &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	make("cert", leaf, ca, key)
	if err := os.Rename(filepath.Join(dir, "cert-key.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
}

func (r *rsyslog) secured() config.Forward {
	in := func(name string) string { return filepath.Join(r.dir, name) }
	return config.Forward{Kind: "syslog", Address: "tls://" + r.tls, CAFile: in("ca.pem"), CertFile: in("cert.pem"), KeyFile: in("key.pem")}
}

// Every way of sending, to a syslog server that is not ours.
func TestRsyslog(t *testing.T) {
	for _, network := range []string{"tcp", "tls", "udp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r := startRsyslog(t)
			b := newBench(t, map[string]config.Forward{
				"tcp":  {Kind: "syslog", Address: "tcp://" + r.tcp},
				"tls":  r.secured(),
				"udp":  {Kind: "syslog", Address: "udp://" + r.udp},
				"unix": {Kind: "syslog", Address: "unix://" + r.unix},
			}[network])
			for range 3 {
				b.log.fill(50)
				b.run(t)
			}
			until(t, "rsyslog has it", func() bool { return len(r.got(t)) >= 150 })
			all := r.got(t)
			b.holds(t, all)
			if len(all) != 150 {
				t.Errorf("%d lines: something came twice", len(all))
			}
			if s := b.state(t); s.Pending != 0 || s.Next != 150 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A server that is killed in the middle, with whatever it holds, and comes
// back: nothing is lost and the order is kept. Over TLS its last word is what
// acknowledges, so that holds for KILL; over TCP its kernel speaks for it
// after its death, so what it had read by then must be written by whoever
// stops it (TERM).
func TestRsyslogComesAndGoes(t *testing.T) {
	for network, signal := range map[string]syscall.Signal{"tls": syscall.SIGKILL, "tcp": syscall.SIGTERM} {
		t.Run(network, func(t *testing.T) {
			r := startRsyslog(t)
			to := r.secured()
			if network == "tcp" {
				to = config.Forward{Kind: "syslog", Address: "tcp://" + r.tcp}
			}
			comesAndGoes(t, newBench(t, to), r.file, func() []got { return r.got(t) }, func() { r.down(signal) }, func() { r.up(t) })
		})
	}
}

// comesAndGoes forwards while records are appended and the receiver, which
// writes to a file, is taken down, three times.
func comesAndGoes(t *testing.T, b *bench, file string, all func() []got, down, up func()) {
	t.Helper()
	b.Destinations[0].Timeout = 10 * time.Second
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for round := range 3 {
		before := size()
		b.log.fill(1500)
		var stopped atomic.Bool
		done := make(chan error, 1)
		go func() { // as the commands of many jobs do
			for {
				if err := b.Run(t.Context()); err == nil || stopped.Load() {
					done <- err
					return
				}
			}
		}()
		until(t, "some of it is there", func() bool { return size() > before+int64(round)*100_000 })
		stopped.Store(true)
		down()
		err := <-done
		b.log.fill(10) // a job ends while it is away
		if again := b.Run(t.Context()); !errors.Is(again, ErrDestination) {
			t.Fatalf("it is away: %v", again)
		}
		s := b.state(t)
		t.Logf("round %d: %d of %d acknowledged when it went (%v)", round, s.Next, len(b.log.all), err)
		if s.Pending == 0 || s.Tries == 0 || s.FailingSince.IsZero() || s.Error == "" || !s.NotBefore.After(s.FailingSince) {
			t.Errorf("%+v", s)
		}
		up()
	}
	until(t, "it takes everything", func() bool { return b.Run(t.Context()) == nil })
	until(t, "all of it is there", func() bool { g := all(); return len(g) > 0 && g[len(g)-1].Index == int64(len(b.log.all)-1) })
	b.holds(t, all())
	if s := b.state(t); s.Pending != 0 || s.Tries != 0 || s.Error != "" || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
}
