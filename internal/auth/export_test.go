package auth

// FetchesAtOnce is fetchesAtOnce.
const FetchesAtOnce = fetchesAtOnce
