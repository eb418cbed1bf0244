package notify

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// The arguments of Redis endpoints that others do not have.
const (
	argRedisMode   = "redis-mode"   // "stream" (default) or "pubsub"
	argRedisKey    = "redis-key"    // of the stream, or the channel's name; default: the topic's name
	argRedisMaxLen = "redis-maxlen" // about how many entries the stream keeps; default: all
)

// redisArgs are the arguments that make a connection to Redis what it is. It is
// never written.
var redisArgs = [...]string{"use-ssl", "user-name", "password"}

// redisSettings are what an endpoint says of Redis.
type redisSettings struct {
	addr           string // host:port
	db             int
	secure         bool
	user, password string
	key            string
	stream         bool // else pub/sub
	maxLen         int64
}

const (
	redisPort = "6379"
	// maxRedisKey bounds the length of a key, in bytes.
	maxRedisKey = 1024
)

// redisSettingsOf reads an endpoint. Errors: ErrInvalidEndpoint.
func redisSettingsOf(e *Endpoint, u *url.URL) (*redisSettings, error) {
	s := &redisSettings{
		addr:     net.JoinHostPort(u.Hostname(), orDefault(u.Port(), redisPort)),
		secure:   strings.EqualFold(u.Scheme, "rediss") || e.BoolArg("use-ssl", false),
		user:     e.Arg("user-name"),
		password: e.Arg("password"),
		key:      orDefault(e.Arg(argRedisKey), e.Topic),
	}
	if u.User != nil && s.password == "" {
		s.user = u.User.Username()
		s.password, _ = u.User.Password()
	}
	if u.Hostname() == "" || strings.Contains(u.Hostname(), ",") || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, fmt.Errorf("%w: want redis[s]://[user:password@]host[:port][/db]", ErrInvalidEndpoint)
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		n, err := strconv.ParseUint(db, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%w: the path is no number of a database", ErrInvalidEndpoint)
		}
		s.db = int(n)
	}
	switch mode := e.Arg(argRedisMode); mode {
	case "", "stream":
		s.stream = true
	case "pubsub":
	default:
		return nil, fmt.Errorf("%w: %s is neither stream nor pubsub", ErrInvalidEndpoint, argRedisMode)
	}
	if s.key == "" || len(s.key) > maxRedisKey {
		return nil, fmt.Errorf("%w: %s has 1 to %d bytes", ErrInvalidEndpoint, argRedisKey, maxRedisKey)
	}
	if n := e.Arg(argRedisMaxLen); n != "" {
		var err error
		if s.maxLen, err = strconv.ParseInt(n, 10, 64); err != nil || s.maxLen <= 0 || !s.stream {
			return nil, fmt.Errorf("%w: %s is a number from 1, for streams", ErrInvalidEndpoint, argRedisMaxLen)
		}
	}
	return s, nil
}
