-- Tells the number of subscriptions, if that is owed and it is time. Answers count_pending: whether it still is.
tell_count()
return finish('count_pending', m.co or '0')
