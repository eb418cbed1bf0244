package notify

import (
	"fmt"
	"net/url"
	"strings"
)

// checkBroker tells whether the settings of a topic's endpoint make sense, for
// those kinds that know before they connect. Errors: ErrInvalidEndpoint.
func (t *Topic) checkBroker(u *url.URL) (err error) {
	e := Endpoint{URL: t.Dest.PushEndpoint, Args: t.Dest.Args, Topic: t.Name}
	switch {
	case isNATS(u):
		_, err = natsSettingsOf(&e, u)
	case isRedis(u):
		_, err = redisSettingsOf(&e, u)
	}
	return err
}

// hungUp says it of an error that is the other side's end of a connection, of
// which the system's words say little.
func hungUp(err error) error {
	if gone(err) {
		return fmt.Errorf("the endpoint closed the connection: %w", err)
	}
	return err
}

func isNATS(u *url.URL) bool {
	switch strings.ToLower(u.Scheme) {
	case "nats", "natss", "tls":
		return true
	}
	return false
}

func isRedis(u *url.URL) bool {
	switch strings.ToLower(u.Scheme) {
	case "redis", "rediss":
		return true
	}
	return false
}

// secretAlone tells whether an endpoint may have one of user and password
// without the other: NATS has tokens, and the default user of Redis no name.
func secretAlone(u *url.URL) bool {
	password, isUser := u.User.Password()
	return isNATS(u) && !isUser && u.User.Username() != "" || isRedis(u) && password != ""
}

// redactURL is the URL without its secrets.
func redactURL(u *url.URL) string {
	if u.User != nil {
		if _, isUser := u.User.Password(); !isUser && isNATS(u) {
			c := *u
			c.User = url.User("xxxxx") // a token
			return c.String()
		}
	}
	return u.Redacted()
}
