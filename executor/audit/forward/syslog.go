package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"
	"golang.org/x/sys/unix"

	"cleanroom/config"
)

// Of RFC 5424, 6.2.1: facility 13 is "log audit".
const (
	facilityAudit = 13
	severityError = 3
	severityInfo  = 6
)

// structure is the SD-ID of what goes beside a record (RFC 5424, 6.3.2). The
// number after @ is the one that RFC 5612 keeps for examples: cleanroom has
// none of its own.
const structure = "cleanroom@32473"

// message is an RFC 5424 message. MSG is the record to the byte, so there is
// no byte order mark before it, as there would be if it were declared UTF-8:
// what reads JSON there would stumble over it.
func (s source) message(i item, host string) ([]byte, error) {
	severity := severityInfo
	if i.notice != "" {
		severity = severityError
	}
	beside := map[string]string{"origin": strings.ToValidUTF8(s.origin, "?"), "index": strconv.FormatInt(i.Index, 10), "leaf": i.leaf}
	if i.notice != "" {
		beside["notice"] = i.notice
	}
	body := string(i.Body)
	// Set here, and not by the library's setters, is what those would drop
	// without a word if they did not like it.
	m := &rfc5424.SyslogMessage{StructuredData: &map[string]map[string]string{structure: beside}}
	m.Message = &body
	m.SetPriority(uint8(facilityAudit*8 + severity)).SetVersion(1)
	m.SetTimestamp(i.Time.UTC().Format("2006-01-02T15:04:05.000000Z07:00")) // it takes six digits at most
	m.SetHostname(host).SetAppname("cleanroom").SetMsgID("audit")
	text, err := m.String()
	return []byte(text), err
}

// syslogSender sends to one address. It keeps no connection.
type syslogSender struct {
	source
	network, address, host string
	tls                    *tls.Config // nil: without
}

func newSyslog(c config.Forward, from source) (sender, error) {
	u, err := url.Parse(c.Address)
	if err != nil {
		return nil, err
	}
	s := &syslogSender{source: from, network: u.Scheme, address: u.Host}
	switch u.Scheme {
	case "unix":
		s.network, s.address = "unixgram", u.Path
	case "tls":
		s.network = "tcp"
		t, err := transport(c)
		if err != nil {
			return nil, err
		}
		s.tls = t.TLSClientConfig
		s.tls.ServerName = u.Hostname()
	}
	s.host, err = os.Hostname()
	return s, err
}

func (s *syslogSender) datagrams() bool { return s.network != "tcp" }

// most: of datagrams no more than a receiver's buffer usually holds, as
// nothing slows a sender down.
func (s *syslogSender) most() (records, bytes int) {
	if s.datagrams() {
		return 64, 64 << 10
	}
	return 512, 256 << 10
}

func (s *syslogSender) send(ctx context.Context, batch []item) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, s.network, s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) // ends what waits
	defer stop()
	if s.datagrams() {
		return s.sendDatagrams(ctx, conn, batch)
	}
	return s.sendStream(ctx, conn, batch)
}

// sendDatagrams sends a message each (RFC 5426). Nothing is acknowledged: what
// we hear of is a host that has nobody at the port, and a queue that is full.
func (s *syslogSender) sendDatagrams(ctx context.Context, conn net.Conn, batch []item) error {
	for _, i := range batch {
		text, err := s.message(i, s.host)
		if err != nil {
			return &refusal{len(batch), err.Error()}
		}
		if _, err := conn.Write(text); errors.Is(err, unix.EMSGSIZE) {
			return &refusal{len(batch), fmt.Sprintf("%d bytes are more than a datagram holds", len(text))}
		} else if err != nil {
			return err
		}
	}
	if s.network == "udp" {
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); ctx.Err() != nil || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(ctx.Err(), err) // an ICMP message: nobody listens
		}
	}
	return nil
}

// sendStream sends messages with their lengths before them (RFC 6587, 3.4.1;
// RFC 5425, 4.3). Syslog acknowledges nothing, but the end of a connection
// does: we say that no more comes, and who has read to there says the same (by
// TLS it must: RFC 5425, 4.4). Where something was left unread, because the
// receiver died, say, its host resets the connection instead.
func (s *syslogSender) sendStream(ctx context.Context, conn net.Conn, batch []item) error {
	type stream interface {
		net.Conn
		CloseWrite() error
	}
	end := conn.(stream) // a TCP connection is one
	if s.tls != nil {
		secured := tls.Client(conn, s.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return err
		}
		end = secured
	}
	var all []byte
	for _, i := range batch {
		text, err := s.message(i, s.host)
		if err != nil {
			return &refusal{len(batch), err.Error()}
		}
		all = append(append(strconv.AppendInt(all, int64(len(text)), 10), ' '), text...)
	}
	if _, err := end.Write(all); err != nil {
		return err
	}
	if err := end.CloseWrite(); err != nil {
		return err
	}
	const most = 64 << 10 // a syslog server has nothing to say; a greeting is no harm
	n, err := io.Copy(io.Discard, io.LimitReader(end, most))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it did not close the connection when we had, within the timeout: whether it read everything is not known: %w", err)
	case err != nil:
		return fmt.Errorf("it broke the connection off before it had read everything: %w", err)
	case n == most:
		return errors.New("it talks without an end: is this a syslog server?")
	}
	return nil
}
