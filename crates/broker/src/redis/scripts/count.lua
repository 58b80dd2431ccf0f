-- Tells the number of subscriptions, if that is owed and it is time. Answers whether it still is.
tell_count()
return finish(m.co or '0')
