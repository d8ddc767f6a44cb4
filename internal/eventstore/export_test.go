package eventstore

const ExpireKeysSQL = expireKeysSQL
