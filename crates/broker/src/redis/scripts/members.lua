-- Lists members. Answers members: the member info of each user's first session.
return finish('members', all_members())
