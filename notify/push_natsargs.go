package notify

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// The arguments of NATS endpoints that others do not have.
const (
	argNATSAck         = "nats-ack-level"            // "jetstream" (default) or "none"
	argNATSSubject     = "nats-subject"              // default: the topic's name
	argNATSStream      = "nats-stream"               // the stream that must take the events; default: any
	argNATSCredentials = "nats-credentials-location" // file with a user's JWT and seed
	argNATSNKey        = "nats-nkey-location"        // file with a user's seed
	argNATSInbox       = "nats-inbox-prefix"         // of the subjects of acknowledgements; default "_INBOX"
)

// natsArgs are the arguments that make a connection to NATS what it is. It is
// never written.
var natsArgs = [...]string{"use-ssl", "user-name", "password", argNATSCredentials, argNATSNKey, argNATSInbox}

// natsSettings are what an endpoint says of NATS.
type natsSettings struct {
	servers               []string // host:port
	secure                bool     // TLS is a must
	user, password, token string
	credentials, nkey     string // files
	inbox                 string
	subject, stream       string
	durable               bool // JetStream acknowledges
}

const (
	natsPort = "4222"
	// maxSubject bounds the length of a subject, in bytes; a server takes 4096
	// with all else that is in the line.
	maxSubject = 1024
)

// natsSettingsOf reads an endpoint. Errors: ErrInvalidEndpoint.
func natsSettingsOf(e *Endpoint, u *url.URL) (*natsSettings, error) {
	s := &natsSettings{
		secure:      strings.EqualFold(u.Scheme, "natss") || strings.EqualFold(u.Scheme, "tls") || e.BoolArg("use-ssl", false),
		user:        e.Arg("user-name"),
		password:    e.Arg("password"),
		credentials: e.Arg(argNATSCredentials),
		nkey:        e.Arg(argNATSNKey),
		inbox:       orDefault(e.Arg(argNATSInbox), "_INBOX"),
		subject:     orDefault(e.Arg(argNATSSubject), e.Topic),
		stream:      e.Arg(argNATSStream),
	}
	switch level := e.Arg(argNATSAck); level {
	case "", "jetstream":
		s.durable = true
	case "none":
	default:
		return nil, fmt.Errorf("%w: %s is neither jetstream nor none", ErrInvalidEndpoint, argNATSAck)
	}
	if u.User != nil && s.user == "" {
		password, isUser := u.User.Password()
		if isUser {
			s.user, s.password = u.User.Username(), password
		} else {
			s.token = u.User.Username()
		}
	}
	if err := s.checkNames(); err != nil {
		return nil, err
	}
	return s, s.addServers(u)
}

func (s *natsSettings) checkNames() error {
	ways := 0
	for _, w := range [...]string{s.user + s.token, s.credentials, s.nkey} {
		if w != "" {
			ways++
		}
	}
	switch {
	case ways > 1:
		return fmt.Errorf("%w: more than one of user, credentials and nkey", ErrInvalidEndpoint)
	case !validSubject(s.subject):
		return fmt.Errorf("%w: %s is no subject that can be published to", ErrInvalidEndpoint, argNATSSubject)
	case !validSubject(s.inbox):
		return fmt.Errorf("%w: %s is no subject", ErrInvalidEndpoint, argNATSInbox)
	case s.stream != "" && (!validSubject(s.stream) || strings.ContainsAny(s.stream, `./\`)):
		return fmt.Errorf("%w: %s is no name of a stream", ErrInvalidEndpoint, argNATSStream)
	case s.stream != "" && !s.durable:
		return fmt.Errorf("%w: %s is for %s=jetstream", ErrInvalidEndpoint, argNATSStream, argNATSAck)
	}
	return nil
}

// addServers reads HOST[:PORT],HOST[:PORT],...
func (s *natsSettings) addServers(u *url.URL) error {
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return fmt.Errorf("%w: an URL of NATS ends after its hosts", ErrInvalidEndpoint)
	}
	for server := range strings.SplitSeq(u.Host, ",") {
		one, err := url.Parse("nats://" + server)
		if err != nil || one.Hostname() == "" || one.Host != server {
			return fmt.Errorf("%w: a host is malformed", ErrInvalidEndpoint)
		}
		s.servers = append(s.servers, net.JoinHostPort(one.Hostname(), orDefault(one.Port(), natsPort)))
	}
	return nil
}

// validSubject tells whether messages may be published to a subject: parts with
// dots between them, without wildcards. Those of the server itself, which begin
// with "$", would be commands to it.
func validSubject(s string) bool {
	if len(s) > maxSubject || strings.HasPrefix(s, "$") {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" {
			return false
		}
		for i := range len(part) {
			if c := part[i]; c <= ' ' || c == 0x7f || c == '*' || c == '>' {
				return false
			}
		}
	}
	return true
}
