package main

import (
	"errors"
	"fmt"
	"strings"
)

// posixStore is the option store's value for files below the option data.
const posixStore = "posix"

// storeDrivers are the drivers of stores that this binary has.
func storeDrivers() []string {
	if hasRADOS {
		return []string{posixStore, kindRADOS}
	}
	return []string{posixStore}
}

// storeURL is what the option store says: the place of objects.
type storeURL struct {
	pool, namespace string // of RADOS; without a pool: posix
}

// rados tells whether objects live in a Ceph cluster, where any number of
// gateways may have them open.
func (u storeURL) rados() bool { return u.pool != "" }

// parseStoreURL reads the option store: posix, or rados://POOL[/NAMESPACE].
func parseStoreURL(s string) (storeURL, error) {
	if s == posixStore {
		return storeURL{}, nil
	}
	rest, ok := strings.CutPrefix(s, kindRADOS+"://")
	if !ok {
		return storeURL{}, errors.New("want posix or rados://POOL/NAMESPACE")
	}
	rest, query, _ := strings.Cut(rest, "?")
	u, err := parseRADOS(rest, query)
	if err == nil && u.namespace != "" && !validNamespace(u.namespace) {
		err = errors.New("namespace: letters, digits and -_.: are allowed, at most 128")
	}
	return storeURL{pool: u.pool, namespace: u.namespace}, err
}

// validateStore checks what the options of the store say, without asking
// anybody.
func (c *config) validateStore() error {
	u, err := parseStoreURL(c.Store)
	switch {
	case err != nil:
		return fmt.Errorf("option store: %q: %w", c.Store, err)
	case u.rados() && !hasRADOS:
		return errors.New("option store: " + noRADOS)
	case !u.rados() && c.StoreRADOSDataPool != "":
		return errors.New("option store.rados.data_pool: the store is not in RADOS")
	}
	return nil
}
