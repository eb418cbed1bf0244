package notify

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"hash"
)

// errKeyFile says no more: which of them it is would help to guess a password.
var errKeyFile = errors.New("cannot decrypt the key: wrong password, or not PBES2 with PBKDF2 and AES in CBC mode")

// The structures of RFC 5958 section 3 and RFC 8018 appendix A.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Params struct {
		KeyDerivation pkix.AlgorithmIdentifier
		Encryption    pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// Object identifiers, as text.
const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
)

// maxIterations bounds the work that a key's file may ask for.
const maxIterations = 1_000_000

// decryptPKCS8 returns the PKCS #8 key in an encrypted one (what OpenSSL writes
// as ENCRYPTED PRIVATE KEY).
func decryptPKCS8(der, password []byte) ([]byte, error) {
	var key encryptedKey
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 || key.Algorithm.Algorithm.String() != oidPBES2 {
		return nil, errKeyFile
	}
	var scheme pbes2Params
	if _, err := asn1.Unmarshal(key.Algorithm.Parameters.FullBytes, &scheme); err != nil || scheme.KeyDerivation.Algorithm.String() != oidPBKDF2 {
		return nil, errKeyFile
	}
	var iv []byte
	size := aesKeySize(scheme.Encryption.Algorithm)
	if _, err := asn1.Unmarshal(scheme.Encryption.Parameters.FullBytes, &iv); err != nil || size == 0 || len(iv) != aes.BlockSize {
		return nil, errKeyFile
	}
	secret, err := deriveKey(scheme.KeyDerivation.Parameters.FullBytes, password, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil || len(key.Data) == 0 || len(key.Data)%aes.BlockSize != 0 {
		return nil, errKeyFile
	}
	plain := make([]byte, len(key.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, key.Data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errKeyFile
	}
	return plain[:len(plain)-pad], nil
}

func deriveKey(params, password []byte, size int) ([]byte, error) {
	var p pbkdf2Params
	if _, err := asn1.Unmarshal(params, &p); err != nil || p.Iterations < 1 || p.Iterations > maxIterations {
		return nil, errKeyFile
	}
	h := prfHash(p.PRF.Algorithm)
	if h == nil {
		return nil, errKeyFile
	}
	key, err := pbkdf2.Key(h, string(password), p.Salt, p.Iterations, size)
	if err != nil {
		return nil, errKeyFile
	}
	return key, nil
}

func aesKeySize(oid asn1.ObjectIdentifier) int {
	switch oid.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16
	case "2.16.840.1.101.3.4.1.22":
		return 24
	case "2.16.840.1.101.3.4.1.42":
		return 32
	}
	return 0
}

// prfHash is the hash of PBKDF2's function: HMAC with SHA-1 unless it says another.
func prfHash(oid asn1.ObjectIdentifier) func() hash.Hash {
	switch oid.String() {
	case "", "1.2.840.113549.2.7":
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

// plainKey decrypts the first key of a PEM file if that is encrypted.
func plainKey(file []byte, password string) ([]byte, error) {
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return file, nil
		}
		if block.Type != "ENCRYPTED PRIVATE KEY" {
			continue
		}
		der, err := decryptPKCS8(block.Bytes, []byte(password))
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
}
