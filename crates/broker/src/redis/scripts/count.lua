-- Sends the subscription count if it is pending and its interval has passed. Answers count_pending: whether it still is.
send_count()
return finish('count_pending', m.co or '0')
